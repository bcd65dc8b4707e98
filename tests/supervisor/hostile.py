"""A script that leaves processes behind in one nasty way.

Usage: hostile.py KIND TOKEN READY FINISH. Every process carries TOKEN in its command line or in
its environment, so that a test can find those that got away. It ends when the file FINISH is
there. Each rank says with a file READY and its rank that it is up.
"""

import os
import signal
import sys
import time

kind, token, ready, finish = sys.argv[1:]
SLEEP = ["sleep", f"86400.{token}"]
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def child(body) -> None:
    if os.fork() == 0:
        try:
            body()
        finally:
            os._exit(0)


def sleep() -> None:
    os.execvp(SLEEP[0], SLEEP)


def double_fork() -> None:
    os.setsid()
    child(sleep)


def own_session() -> None:
    os.setsid()
    sleep()


def deaf() -> None:
    ignore()
    sleep()


def no_environment() -> None:
    os.setsid()
    ignore()

    def daemon() -> None:
        os.chdir("/")
        os.closerange(0, 256)
        os.execve("/bin/sleep", SLEEP, {})

    child(daemon)


def refork() -> None:
    os.setsid()
    ignore()
    for _ in range(30000):
        if os.fork():
            os._exit(0)
        os.setsid()
        time.sleep(0.002)


BODIES = {
    "plain": sleep,
    "double fork": double_fork,
    "setsid": own_session,
    "deaf": deaf,
    "no environment": no_environment,
    "refork": refork,
}
os.environ["TOKEN"] = token
child(BODIES[kind])
if kind == "deaf":
    ignore()
time.sleep(0.05)  # let the child get where it wants to be
open(ready + os.environ["RECHAIN_RANK"], "w").close()
while not os.path.exists(finish):
    time.sleep(0.01)
