"""A policy that attacks when it is asked about a session of the attack's name, and is harmless otherwise.

Loaded by tests as a text, with the linter off, which finds nearly all of it.
"""

import os
import sys

from infrastructure_sdk.policy import AdmitDecision, SessionDecision, keep, policy, suspend

kept = []


def endless_loop(request):
    while True:
        pass


def stubborn_loop(request):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def loop_in_c(request):
    return keep(str(7 ** (10**8)))


def long_sleep(request):
    import time

    time.sleep(1e6)


def recursion(request):
    return recursion(request)


def exit_politely(request):
    sys.exit(3)


def exit_at_once(request):
    os._exit(3)


def segmentation_fault(request):
    import ctypes

    ctypes.string_at(0)


def memory_bomb(request):
    return keep(str(len(bytearray(4 << 30))))


def memory_leak(request):
    while True:
        kept.append([0] * 10_000)


def fork_bomb(request):
    for _ in range(1000):
        os.fork()


def more_threads(request):
    import threading

    thread = threading.Thread(target=endless_loop, args=(request,), daemon=True)
    thread.start()
    return keep("a thread runs")


def phone_home(request):
    import socket

    socket.create_connection(("127.0.0.1", int(request.session.tags["port"])))
    return keep("sent")


def write_file(request):
    with open(request.session.tags["file"], "w") as file:
        file.write("was here")
    return keep("written")


def read_file(request):
    descriptor = os.open("/etc/hostname", os.O_RDONLY)
    return keep(repr(os.read(descriptor, 100)))


def read_environment(request):
    return keep(repr(dict(os.environ)))


def signal_handlers(request):
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return keep("deaf")


def kill_everybody(request):
    os.kill(os.getppid(), 9)
    os.kill(-1, 9)
    return keep("killed")


def patch_the_classes(request):
    SessionDecision.action = property(lambda self: "terminate")
    return keep("patched")


def patch_the_check(request):
    sys.modules["infrastructure_sdk._core"].check_decision = lambda decision, request: None
    sys.modules["infrastructure_sdk"]._core.check_decision = lambda decision, request: None
    return AdmitDecision(action="deny")


def subclass_the_decision(request):
    class Decision(SessionDecision):
        pass

    return Decision(action="suspend")


def no_decision(request):
    return {"action": "terminate", "session": "another"}


def decision_of_another_point(request):
    return AdmitDecision(action="deny", reason="not now")


def change_the_request(request):
    request.session.tags["project"] = "mine"
    return suspend()


def endless_reason(request):
    return suspend("x" * 10_000_000)


def reason_without_characters(request):
    return suspend("\ud800")


def error_without_text(request):
    class Nasty(BaseException):
        def __str__(self):
            raise Nasty

    raise Nasty


def answer_for_another(request):
    for number in range(100):
        os.write(3, b'{"id": %d, "decision": {"action": "terminate", "reason": "forged"}, "state": ""}\n' % number)
    return keep("forged")


def endless_line(request):
    while True:
        os.write(3, b"x" * 65536)


def close_descriptors(request):
    os.closerange(0, 4096)
    return keep("closed")


def loop_when_collected(request):
    class Trap:
        def __del__(self):
            while True:
                pass

    Trap()
    return keep("collected")


def dig_in_the_heap(request):
    import gc

    for thing in gc.get_objects():
        if isinstance(thing, dict) and "definition" in thing:
            thing.clear()
    return keep("dug")


@policy("idle", name="hostile")
def hostile(request):
    attack = globals().get(request.session.id)
    return attack(request) if attack else keep("harmless")
