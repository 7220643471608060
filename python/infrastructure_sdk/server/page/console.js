// The viewer. The token comes in the fragment, which no browser sends to a server, and leaves the address bar at once.
import RFB from "/static/novnc/core/rfb.js";

const place = location.pathname;
const token = location.hash.slice(1);
history.replaceState(null, "", place);

const root = document.documentElement;
const status = document.getElementById("status");
const attention = document.getElementById("secure-attention");
const session = decodeURIComponent(place.split("/").pop());
document.getElementById("session").textContent = session;
document.title = `${session} - console`;

function show(state, text) {
  root.dataset.state = state;
  status.textContent = text;
  attention.disabled = state !== "connected";
}

function closed(event) {
  const lost = root.dataset.state === "connected";
  show("closed", event.reason || (lost ? "disconnected" : "refused: ask for a new address, each one opens once"));
}

if (token === "") {
  show("closed", "this address has no token: ask for a new one");
} else {
  const channel = new WebSocket(`ws://${location.host}${place}/stream`, ["binary", `isdk.token.${token}`]);
  channel.addEventListener("close", closed);
  const rfb = new RFB(document.getElementById("screen"), channel, { shared: true });
  rfb.scaleViewport = true;
  rfb.addEventListener("connect", () => {
    show("connected", "connected");
    rfb.focus();
  });
  attention.addEventListener("click", () => rfb.sendCtrlAltDel());
}

document.getElementById("fullscreen").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.getElementById("screen").requestFullscreen();
});
