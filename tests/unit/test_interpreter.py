"""How the interpreter is set for serving; in a process of its own, which it changes."""

import subprocess
import sys

CHECK = """
import gc, sys, weakref
from agent_mail_server.interpreter import set_for_serving

class Thing:
    pass

def circle():
    one = Thing()
    one.itself = one
    return weakref.ref(one)

kept = Thing()
kept.itself = kept
seen = weakref.ref(kept)
with set_for_serving():
    frozen = gc.get_freeze_count()
    del kept
    new = circle()
    gc.collect()
    print(sys.getswitchinterval() < 0.005, gc.get_threshold()[0] > 700, frozen > 1000, new() is None, seen() is None)
gc.collect()
print(seen() is None)
"""


def test_what_is_there_at_the_start_is_kept_out_of_the_way_until_the_end_and_new_circles_go() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "True", "True", "True", "False", "True"]
