# Plays a person at a terminal: types into an interactive shell what is to be typed when a text has appeared,
# and prints what was seen, without the numbers of processes, and how the shell ended.
# usage: session.py STEPS PATH; STEPS are [text, typed] in JSON, PATH comes before PATH.
import fcntl, json, os, pty, re, signal, struct, sys, termios



def give_up(*_):
    sys.exit(f'nothing happens any more after {seen[-1500:]}')


signal.signal(signal.SIGALRM, give_up)
signal.alarm(60)
steps = json.load(open(sys.argv[1]))
os.environ.update(PS1='ready> ', INNER='inner> ', TERM='dumb', PATH=sys.argv[2] + ':' + os.environ['PATH'])
child, terminal = pty.fork()


def resize(descriptor, rows, columns):
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))


if child == 0:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it
    resize(0, 33, 99)
    os.execvp('bash', ['bash', '--norc', '--noprofile', '--noediting', '-i'])
seen, at = '', 0


def look():
    global seen
    try:
        piece = os.read(terminal, 4096)
    except OSError:  # the end
        return False
    seen += piece.decode(errors='replace')
    return bool(piece)


for text, typed in steps:
    while text not in seen[at:]:
        if not look():
            sys.exit(f'no {text!r} at the end of {seen}')
    at = seen.index(text, at) + len(text)
    if typed == 'RESIZE':
        resize(terminal, 44, 88)
    else:
        os.write(terminal, typed.encode())
while look():
    pass
print(re.sub(r'(\[\d\]) \d+', r'\1 PID', seen).replace('\r\n', '\n'), end='')
print('status', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
