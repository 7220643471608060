"""A table of sessions that follows what happens.

With the extra ``widget`` (anywidget) it is alive in Jupyter, VS Code, Colab and marimo; without it, and in every page
that was saved, it is the table of the moment (a page that nbclient executed has it with ``store_widget_state=False``).
It needs no `await`: it is fed by the loop that runs, or by the package's own in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from infrastructure_sdk.notebook.timeline import COLOURS

__all__ = ["LiveSessions"]

COLUMNS = ("session", "user", "template", "state", "since", "last event")
_REST = 0.25  # s between two pictures: people see no more
_ESM = """
const columns = %s, colours = %s;
function cell(row, text) { const td = row.insertCell(); td.textContent = text; return td; }
function draw(model, el) {
  const table = document.createElement("table"), head = table.createTHead().insertRow();
  for (const name of columns) { const th = document.createElement("th"); th.textContent = name; head.append(th); }
  const body = table.createTBody();
  for (const item of model.get("rows")) {
    const row = body.insertRow();
    for (const name of columns) {
      const td = cell(row, item[name]);
      if (name === "state") {
        const dot = document.createElement("span");
        dot.textContent = "\\u25cf ";
        dot.style.color = colours[item.state] ?? "#999999";
        td.prepend(dot);
      }
    }
  }
  const foot = document.createElement("div");
  foot.textContent = model.get("status");
  el.replaceChildren(table, foot);
}
export default {
  render({ model, el }) {
    const again = () => draw(model, el);
    model.on("change:rows", again);
    model.on("change:status", again);
    again();
    return () => { model.off("change:rows", again); model.off("change:status", again); };
  },
};
"""

Row = dict[str, str]


class LiveSessions:
    """The sessions of an installation, live.

    Parameters
    ----------
    sdk
        An opened `InfrastructureSDK`, or the one of `infrastructure_sdk.sync`.
    most
        How many sessions are shown, the first ones by id; 1 to 1000.

    Examples
    --------
    ::

        live = isdk.LiveSessions(sdk)
        await live.ready()  # the last line of a cell shows it
        live.close()  # ends following; the table stays as it is
    """

    def __init__(self, sdk: Any, *, most: int = 200) -> None:
        if not isinstance(most, int) or not 1 <= most <= 1000:
            raise ValueError(f"most: {most!r} is not allowed; 1 to 1000")
        self._sdk = getattr(sdk, "_twin", sdk)
        self._most = most
        self._rows: list[Row] = []
        self._status = "not begun"
        self._widget: Any = None
        self._followed: Future[None] | None = None
        self._changed = threading.Condition()
        self._home = _loop_of(sdk)
        self._begin()

    @property
    def rows(self) -> list[Row]:
        """What is shown now."""
        with self._changed:
            return [dict(row) for row in self._rows]

    @property
    def status(self) -> str:
        """ "live", "closed", or why it does not follow any more."""
        return self._status

    def wait_for(self, condition: Callable[[Sequence[Mapping[str, str]]], bool], timeout: float = 30.0) -> bool:
        """Block until what is shown fulfils a condition; whether it did in time (seconds).

        Not on the thread of the event loop that the SDK was opened on: nothing would change meanwhile.
        """
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._rows), timeout)

    async def ready(self) -> LiveSessions:
        """Return itself when the first look is done, so that a saved page has a table."""
        await asyncio.to_thread(self.wait_for, lambda _rows: self._status != "not begun")
        return self

    def close(self) -> None:
        """Follow no longer. Closing twice is fine."""
        followed, self._followed = self._followed, None
        if followed is not None:
            followed.cancel()
            self._show(self._rows, "closed")

    def _begin(self) -> None:
        loop = self._home
        if loop is None:
            from infrastructure_sdk.sync import _background_loop

            loop = _background_loop()
        self._followed = asyncio.run_coroutine_threadsafe(self._follow(), loop)

    async def _follow(self) -> None:
        """Look at the sessions, then again whenever something happened, four times a second at most."""
        from infrastructure_sdk.automation.runner import end_of

        try:
            last: dict[str, str] = {}
            after = await end_of(self._sdk.events)
            await self._look(last)
            await self._look_again(last, after)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._show(self._rows, f"not live any more: {error}")

    async def _look_again(self, last: dict[str, str], after: int) -> None:
        """Events are taken in beside the looking: one look stands for all that came meanwhile."""
        news = asyncio.Event()

        async def hear() -> None:
            try:
                async for event in self._sdk.events.watch(after=after):
                    last[str(event["subject"])] = str(event["type"])
                    news.set()
            finally:
                news.set()

        hearing = asyncio.ensure_future(hear())
        try:
            while True:
                await news.wait()
                news.clear()
                await self._look(last)
                if hearing.done():
                    return hearing.result()
                await asyncio.sleep(_REST)
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _look(self, last: Mapping[str, str]) -> None:
        found = await self._sdk.sessions.list(limit=self._most)
        self._show([_row(session, last.get(session.id, "")) for session in found], "live")

    def _show(self, rows: list[Row], status: str) -> None:
        with self._changed:
            self._rows, self._status = rows, status
            widget = self._widget
            self._changed.notify_all()
        if widget is not None:
            widget.rows, widget.status = rows, status

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        body = "".join("<tr>" + "".join(_cell(name, row[name]) for name in COLUMNS) + "</tr>" for row in self.rows)
        return f"<table><tr>{head}</tr>{body}</table><div>{html.escape(self._status)}</div>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        widget = self._made_widget()
        if widget is not None:
            found = widget._repr_mimebundle_()
            data = found[0] if isinstance(found, tuple) else found
            bundle = {**(data or {}), **bundle}
        return bundle

    def _made_widget(self) -> Any:
        if self._widget is None:
            made = _make_widget()
            if made is None:
                return None
            with self._changed:
                self._widget = made
            self._show(self._rows, self._status)
        return self._widget

    def __repr__(self) -> str:
        return f"<LiveSessions: {len(self._rows)} sessions, {self._status}>"


def _row(session: Any, event: str) -> Row:
    document = session.to_dict()
    change = document.get("last_change") or {}
    since = str(change.get("at") or document["created_at"])[:19].replace("T", " ")
    return dict(zip(COLUMNS, (session.id, session.user_id, session.template, session.state, since, event), strict=True))


def _cell(name: str, text: str) -> str:
    dot = f'<span style="color:{COLOURS.get(text, "#999999")}">&#9679;</span> ' if name == "state" else ""
    return f"<td>{dot}{html.escape(text)}</td>"


def _loop_of(sdk: Any) -> asyncio.AbstractEventLoop | None:
    """The running loop of who made it, when the SDK is the asynchronous one: it is bound to it."""
    if hasattr(sdk, "_twin"):
        return None
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def _make_widget() -> Any:
    """The live part; None without anywidget."""
    try:
        import anywidget
        import traitlets
    except ImportError:
        return None
    import json

    class _Table(anywidget.AnyWidget):  # type: ignore[misc, unused-ignore]
        _esm = _ESM % (json.dumps(COLUMNS), json.dumps(COLOURS))
        rows = traitlets.List(traitlets.Dict()).tag(sync=True)
        status = traitlets.Unicode("").tag(sync=True)

    return _Table()
