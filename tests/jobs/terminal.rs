//! A job on a terminal: it is as it would be without `mfs run`.

use std::io::Write;
use std::process::Stdio;

use mfs_tests::{Node, Setup};

/// Plays a person at a terminal: runs a command on one, types what is to be typed when a text has appeared,
/// and prints what was seen and the exit status.
const PERSON: &str = r#"
import fcntl, os, pty, signal, struct, sys, termios
signal.alarm(60)
command, wait_for, typed = sys.argv[1], sys.argv[2].encode(), sys.argv[3].encode().decode('unicode_escape').encode()
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 99, 0, 0))
    os.execvp('sh', ['sh', '-c', command])
seen, done = b'', False
while True:
    try: piece = os.read(fd, 4096)
    except OSError: break
    if not piece: break
    seen += piece
    if wait_for in seen and not done:
        done = True
        os.write(fd, typed)
print(seen.decode().replace('\r', '').strip())
print('status', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_job_on_a_terminal_has_one_of_its_own_of_the_same_size() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run(&format!("cat >/root/person.py <<'EOF'\n{PERSON}\nEOF"));
    let play = |command: &str, wait_for: &str, typed: &str| {
        n1.run(&format!("python3 /root/person.py '{command}' '{wait_for}' '{typed}'"))
    };
    let size = play("mfs run -n n2 -- sh -c \"tty; stty size; echo done\"", "nothing", "");
    assert_eq!(size, "/dev/pts/0\n33 99\ndone\nstatus 0");
    let typed = play(
        "mfs run -n n2 -- sh -c \"echo name?; read name; echo hello \\$name\"",
        "name?",
        "anna\\n",
    );
    assert_eq!(typed, "name?\nanna\nhello anna\nstatus 0");
    let interrupted =
        play("mfs run -n n2 -- sh -c \"echo ready; sleep 1000; echo after\"", "ready", "\\x03");
    assert_eq!(interrupted, "ready\n^C\nstatus -2");
    let shell = play("mfs run -n n2 -- sh -i", "#", "exit 3\\n");
    assert!(shell.ends_with("status 3"), "{shell}");
}

/// What is typed when a text has appeared; `on` runs a program with or without mfs. `RESIZE`: the window is made
/// larger.
const STEPS: &[(&str, &str)] = &[
    (READY, "ulimit -c 0\n"),
    // Stopped and continued in the foreground.
    (READY, "on python3 /root/echoer.py\n"),
    ("up\r\n", "hello\n"),
    ("heard hello\r\n", "\x1a"),
    (READY, "jobs\n"),
    (READY, "fg\n"),
    ("back\r\n", "again\n"),
    ("heard again\r\n", "RESIZE"),
    ("size 88 44\r\n", "\x03"),
    (READY, STATUS),
    (READY, "on python3 /root/echoer.py\n"),
    ("up\r\n", "\x04"),
    (READY, STATUS),
    // In the background: it stops when it reads, not before.
    (READY, "on sleep 1000 &\n"),
    (READY, "jobs\n"),
    (READY, "kill %1; wait %1; echo status $?\n"),
    (READY, "on python3 /root/echoer.py &\n"),
    ("up\r\n", "until test -n \"$(jobs -s)\"; do sleep 0.1; done\n"),
    (READY, "jobs\n"),
    (READY, "fg\n"),
    ("back\r\n", "word\n"),
    ("heard word\r\n", "\x1a"),
    (READY, "fg\n"),
    ("back\r\n", "\x03"),
    (READY, STATUS),
    // Continued in the background, and fetched from there.
    (READY, "on python3 /root/echoer.py front\n"),
    ("up\r\n", "\x1a"),
    (READY, "bg\n"),
    (READY, "jobs\n"),
    (READY, "fg\n"),
    ("now in front\r\n", "\x03"),
    (READY, STATUS),
    // Pipelines, and statuses.
    (READY, "on yes | head -n 1; echo ${PIPESTATUS[@]}\n"),
    (READY, "on seq 100000 | on tail -n 1; echo piped | on cat\n"),
    (READY, "on sh -c 'exit 7'; echo status $?; on sh -c 'kill -SEGV $$'; echo status $?\n"),
    (READY, "on no-such-program 2>/dev/null; echo status $?\n"),
    // A key that ends the program ends the loop around it.
    (READY, "for i in 1 2 3; do on sh -c 'echo turn; exec sleep 1000'; done\n"),
    ("turn\r\n", "\x03"),
    (READY, STATUS),
    (READY, "on sh -c 'echo begun; exec sleep 1000'\n"),
    ("begun\r\n", "\x1c"),
    (READY, STATUS),
    // Streams that are no terminals, what is not shown, and signals that are ignored.
    (READY, "on sh -c 'test -t 2 || echo apart; echo lost >&2' 2>/dev/null\n"),
    (READY, "echo x | on sh -c 'test -t 0 || echo piped; test -t 1 && stty size </dev/tty; cat'\n"),
    (READY, "on sh -c 'stty -echo; echo hidden; read x; stty echo; echo heard $x'\n"),
    ("hidden\r\n", "secret\n"),
    (READY, "(trap '' INT; on sh -c 'kill -INT $$; echo lives')\n"),
    (READY, "stty erase ^H -ixon iutf8; on stty -a; stty erase ^? ixon\n"),
    // Several processes at once.
    (READY, "printf 'all: 1 2 3 4\\n1 2 3 4:\\n\\t@sleep 0.1\\n\\t@test -t 1\\n' >/tmp/makefile\n"),
    (READY, "on make -j4 -f /tmp/makefile; echo status $?\n"),
    // A shell with jobs of its own.
    (READY, "PS1=$INNER on bash --norc --noprofile --noediting -i\n"),
    ("inner> ", "python3 /root/echoer.py front\n"),
    ("up\r\n", "\x1a"),
    ("inner> ", "jobs\n"),
    ("inner> ", "bg\n"),
    ("inner> ", "fg\n"),
    ("now in front\r\n", "\x03"),
    ("inner> ", STATUS),
    ("inner> ", "yes | head -n 1; echo ${PIPESTATUS[@]}\n"),
    ("inner> ", "suspend -f\n"),
    (READY, "fg\n"),
    ("inner> ", "exit 3\n"),
    (READY, STATUS),
    (READY, "exit 5\n"),
];

const READY: &str = "ready> ";

const STATUS: &str = "echo status $?\n";

fn put(node: Node<'_>, path: &str, text: &str) {
    let mut command = node.command("sh");
    command.args(["-c", &format!("mkdir -p $(dirname {path}); cat >{path}; chmod 755 {path}")]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("mfs lab exec starts");
    let mut input = child.stdin.take().expect("it is a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    assert!(child.wait().expect("it was started").success());
}

#[test]
fn a_person_sees_no_difference() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    put(n1, "/root/session.py", include_str!("session.py"));
    put(n1, "/root/echoer.py", include_str!("echoer.py"));
    put(n1, "/root/steps.json", &serde_json::to_string(STEPS).expect("they are texts"));
    put(n1, "/root/near/on", "#!/bin/sh\nexec \"$@\"\n");
    put(n1, "/root/far/on", "#!/bin/sh\nexec mfs run -n n2 -- \"$@\"\n");
    let session =
        |on: &str| n1.run(&format!("python3 /root/session.py /root/steps.json /root/{on}"));
    let (near, far) = (session("near"), session("far"));
    assert!(near.ends_with("exit\nstatus 5"), "{near}");
    for (near, far) in near.lines().zip(far.lines()) {
        assert_eq!(near, far);
    }
    assert_eq!(near, far);
}
