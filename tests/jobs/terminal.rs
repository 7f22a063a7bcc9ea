//! A job on a terminal.

use mfs_tests::Setup;

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
    assert_eq!(interrupted, "ready\n^C\nstatus 130");
    let shell = play("mfs run -n n2 -- sh -i", "#", "exit 3\\n");
    assert!(shell.ends_with("status 3"), "{shell}");
}
