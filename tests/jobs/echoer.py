# Says each line that it hears, when it was continued, and how large its terminal has become. With an argument it
# hears nothing, and says only when it was continued and has the terminal.
import os, signal, sys, threading, time

SIGNALS = {signal.SIGCONT, signal.SIGWINCH}


def say(word):
    os.write(1, (word + '\n').encode())


def watch():
    # A thread of its own: a handler would wait for the reading, if the signal came just before it.
    while True:
        if signal.sigwait(SIGNALS) == signal.SIGWINCH:
            say('size %d %d' % os.get_terminal_size())
        elif not sys.argv[1:]:
            say('back')
        else:
            while os.tcgetpgrp(0) != os.getpgrp():
                time.sleep(0.02)
            say('now in front')


signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
threading.Thread(target=watch, daemon=True).start()
say('up')
while sys.argv[1:]:
    signal.pause()
for line in sys.stdin:
    say('heard ' + line.strip())
