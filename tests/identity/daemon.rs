//! One real mfsd on an address of the loopback, with its commands, and what a client of it needs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mfs::identity::{Credentials, Store, server_name};
use mfs::types::NodeId;
use mfs_tests::binary;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// The longest that anything here may take; only ends what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running mfsd; killed when dropped.
pub(crate) struct Daemon {
    process: Child,
    place: TempDir,
    address: SocketAddr,
}

// === impl Daemon ===

impl Daemon {
    /// Starts a daemon that is in no cluster.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, "")
    }

    /// The same with more lines at the head of its configuration.
    pub(crate) fn start_with(name: &str, more: &str) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        use std::os::unix::fs::PermissionsExt;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.path(), open).expect("set");
        fs::create_dir(place.path().join("tree")).expect("a directory");
        let address = mfs_tests::loopback();
        let config = format!(
            "name = {name:?}\nlisten = [\"{address}\"]\nbeacon = false\n{more}\n[export]\npath = {:?}\n",
            place.path().join("tree")
        );
        fs::write(place.path().join("mfsd.toml"), config).expect("written");
        let process = spawn(place.path());
        let daemon = Self { process, place, address };
        daemon.wait_until_it_answers();
        daemon
    }

    /// Starts a daemon and founds a cluster; answers the first token too.
    pub(crate) fn found(name: &str, words: &[&str]) -> (Self, String) {
        let daemon = Self::start(name);
        let said = daemon.run(&[&["init"], words].concat());
        (daemon, token_of(&said))
    }

    /// Starts a daemon and joins the cluster of `other`.
    pub(crate) fn join(name: &str, other: &Self) -> Self {
        let daemon = Self::start(name);
        let token = token_of(&other.run(&["token", "create"]));
        daemon.run(&["join", &token, &other.address()]);
        daemon
    }

    fn wait_until_it_answers(&self) {
        let deadline = mfs::clock::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(self.runtime().join("mfsd.sock")).is_err() {
            assert!(mfs::clock::now() < deadline, "mfsd does not answer:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// Ends the daemon as systemd does, and starts it again; `change` is done between.
    pub(crate) fn restart(&mut self, change: impl FnOnce(&Path)) {
        self.stop();
        change(&self.state());
        self.process = spawn(self.place.path());
        self.wait_until_it_answers();
    }

    /// Ends the daemon as systemd does.
    pub(crate) fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let status = self.process.wait().expect("a child");
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    /// Starts again a daemon that was stopped and that is to refuse; answers what it says.
    pub(crate) fn refuses_to_start(&mut self) -> String {
        self.process = spawn(self.place.path());
        let status = self.process.wait().expect("a child");
        assert!(!status.success(), "it started");
        self.log().lines().last().unwrap_or_default().to_owned()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.place.path().join("state")
    }

    /// Its runtime directory.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.place.path().join("run")
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// An `mfs` command for this daemon.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary("mfs"));
        command.args(words).arg("--runtime").arg(self.runtime()).stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("mfs starts")
    }

    /// Runs a command that must succeed; answers what it says.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let output = self.output(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mfs {}: {said}\n{}", words.join(" "), self.log());
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must be refused; answers the refusal.
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let output = self.output(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "mfs {} was not refused", words.join(" "));
        assert!(!said.is_empty() && !said.contains("panicked"), "{said}");
        said
    }

    /// The identity that it has on the disk, as a thief of the directory would have it.
    pub(crate) fn credentials(&self) -> Credentials {
        let store = Store::open(&self.state()).expect("private");
        let enrolment = store.load().expect("whole").expect("in a cluster");
        Credentials::new(enrolment.identity).expect("good")
    }

    /// Its node.
    pub(crate) fn node(&self) -> NodeId {
        self.credentials().identity().node()
    }

    /// A TLS connection to it.
    pub(crate) async fn tls(
        &self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(config).connect(name, stream).await
    }

    /// A gRPC channel to it with this configuration.
    pub(crate) async fn channel(&self, config: Arc<ClientConfig>) -> Result<Channel, String> {
        let tls = self.tls(config, server_name(self.node())).await.map_err(|e| e.to_string())?;
        let mut once = Some(TokioIo::new(tls));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = once.take();
            async move { stream.ok_or_else(|| std::io::Error::other("ended")) }
        });
        let endpoint = Endpoint::from_static("http://node.mfs").timeout(PATIENCE);
        endpoint.connect_with_connector(connector).await.map_err(|e| e.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(place: &Path) -> Child {
    let log = fs::OpenOptions::new().append(true).create(true).open(place.join("log"));
    Command::new(binary("mfsd"))
        .arg("--config")
        .arg(place.join("mfsd.toml"))
        .arg("--state")
        .arg(place.join("state"))
        .arg("--runtime")
        .arg(place.join("run"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a file"))
        .spawn()
        .expect("mfsd starts")
}

/// The token in what `mfs init` and `mfs token create` print.
pub(crate) fn token_of(said: &str) -> String {
    let word = said.split_whitespace().find(|word| word.starts_with("MFS1-"));
    word.unwrap_or_else(|| panic!("no token: {said}")).to_owned()
}
