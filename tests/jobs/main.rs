//! Programs that `mfs run` starts: they run elsewhere and see, say and end what they would here.

mod balance;
mod detached;
mod lend;
mod locks;
mod moving;
mod place;
mod terminal;
mod view;

use std::process::{Output, Stdio};

use mfs_tests::Node;

/// What a line of shell gives on a node, when its standard streams are pipes.
fn shell(node: Node<'_>, line: &str, input: &[u8]) -> Output {
    use std::io::Write;
    let mut command = node.command("sh");
    command.args(["-c", line]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("mfs lab exec starts");
    let mut to = child.stdin.take().expect("it is a pipe");
    let bytes = input.to_vec();
    let writer = std::thread::spawn(move || {
        // Who does not read to the end has its reasons.
        let _ = to.write_all(&bytes);
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it does not panic");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}
