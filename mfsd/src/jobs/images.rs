//! The images of jobs that move: a directory for each, taken away when nobody needs it any more, and the way
//! from one node to the other.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::{Context, ensure};
use mfs::jobs::ImagesToken;
use mfs::sync::Mutex;
use mfs::types::NodeId;
use mfs_proto::v1;
use mfs_proto::v1::image_piece::Kind;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

/// Most bytes of a piece.
const PIECE: usize = 1 << 20;

/// Pieces on their way.
const IN_FLIGHT: usize = 4;

/// Most files of one job: three for each process, and some more.
const MAX_FILES: usize = 100_000;

/// A directory of images; gone with this.
#[derive(Debug)]
pub(super) struct Images {
    path: PathBuf,
}

/// Images that wait to be fetched, by whom they may be.
///
/// Lock order: a leaf.
#[derive(Debug, Default)]
pub(super) struct Offers(Mutex<HashMap<ImagesToken, (NodeId, Arc<Images>)>>);

// === impl Images ===

impl Images {
    /// A new, empty directory in the daemon's own.
    pub(super) fn new(below: &Path, token: ImagesToken) -> anyhow::Result<Self> {
        let path = below.join(token.to_string());
        // Memory of users' programs: for root alone.
        let builder = |is_below| {
            let mut builder = fs::DirBuilder::new();
            builder.mode(0o700).recursive(is_below);
            builder
        };
        builder(true).create(below).context("there is no place for images")?;
        builder(false).create(&path).context("there is no place for images")?;
        Ok(Self { path })
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All of them, bytes.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        let lengths =
            self.names()?.into_iter().map(|name| Ok(fs::metadata(self.path.join(name))?.len()));
        lengths.sum()
    }

    /// Names of all images, and of nothing else that lies beside them.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if entry.file_type()?.is_file() && is_image(&name) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Sends all of them, from a thread that may block.
    fn send(&self, to: &mpsc::Sender<Result<v1::ImagePiece, Status>>) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let piece = |kind| Ok(v1::ImagePiece { kind: Some(kind) });
        for name in self.names()? {
            let mut file = fs::File::open(self.path.join(&name))?;
            to.blocking_send(piece(Kind::Name(name))).map_err(gone)?;
            loop {
                let mut bytes = Vec::with_capacity(PIECE);
                (&mut file).take(PIECE as u64).read_to_end(&mut bytes)?;
                if bytes.is_empty() {
                    break;
                }
                to.blocking_send(piece(Kind::Data(bytes.into()))).map_err(gone)?;
            }
        }
        Ok(())
    }

    /// Takes what a node sends; `fetched` is told the bytes as they come. Refuses more than was announced.
    pub(super) async fn take(
        &self,
        mut pieces: impl Stream<Item = Result<v1::ImagePiece, Status>> + Unpin,
        announced: u64,
        mut fetched: impl FnMut(u64),
    ) -> anyhow::Result<()> {
        let mut file: Option<tokio::fs::File> = None;
        let (mut bytes, mut files) = (0, 0);
        while let Some(piece) = pieces.next().await {
            match piece?.kind {
                Some(Kind::Name(name)) => {
                    ensure!(is_image(&name), "{name:?} is no name of an image");
                    files += 1;
                    ensure!(files <= MAX_FILES, "no job has so many images");
                    close(file.take()).await?;
                    let path = self.path.join(name);
                    let options = fs::File::options().write(true).create_new(true).to_owned();
                    file = Some(tokio::fs::OpenOptions::from(options).open(path).await?);
                }
                Some(Kind::Data(data)) => {
                    bytes += data.len() as u64;
                    ensure!(bytes <= announced, "there are more images than were announced");
                    let file = file.as_mut().context("an image has no name")?;
                    file.write_all(&data).await?;
                    fetched(bytes);
                }
                None => {}
            }
        }
        close(file).await?;
        ensure!(bytes == announced, "{bytes} of {announced} bytes of images came");
        Ok(())
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("images stay in {}: {error}", self.path.display());
        }
    }
}

/// A plain name of a file of CRIU's.
fn is_image(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 64 && name.chars().all(plain) && !name.starts_with('.') && name.ends_with(".img")
}

async fn close(file: Option<tokio::fs::File>) -> io::Result<()> {
    match file {
        // Its last write may still be under way.
        Some(mut file) => file.flush().await,
        None => Ok(()),
    }
}

// === impl Offers ===

impl Offers {
    /// Has these images wait for that node.
    pub(super) fn put(&self, token: ImagesToken, target: NodeId, images: Arc<Images>) {
        self.0.lock().insert(token, (target, images));
    }

    /// They are not to be had any more.
    pub(super) fn withdraw(&self, token: ImagesToken) {
        self.0.lock().remove(&token);
    }

    /// Sends them to the node that may have them, once.
    pub(super) fn send(
        &self,
        token: ImagesToken,
        to: NodeId,
    ) -> Result<mpsc::Receiver<Result<v1::ImagePiece, Status>>, Status> {
        // Whoever guesses learns nothing of what there is.
        let none = || Status::not_found("no images of this name wait for this node");
        let images = {
            let mut offers = self.0.lock();
            match offers.get(&token) {
                Some((target, _)) if *target == to => offers.remove(&token),
                _ => None,
            }
        };
        let (_, images) = images.ok_or_else(none)?;
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = images.send(&sender) {
                let _ = sender.blocking_send(Err(Status::aborted(format!("{error}")))); // or it is gone
            }
        });
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const TOKEN: ImagesToken = ImagesToken([1; 16]);

    fn node(number: u8) -> NodeId {
        NodeId::from_digest([number; 32])
    }

    fn some(below: &Path) -> Images {
        let images = Images::new(below, TOKEN).unwrap();
        fs::write(images.path().join("core-1.img"), vec![7; 3 << 20]).unwrap();
        fs::write(images.path().join("empty.img"), b"").unwrap();
        fs::write(images.path().join("dump.log"), b"what was done").unwrap();
        images
    }

    #[tokio::test]
    async fn images_arrive_as_they_were_and_once() {
        let [there, here] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let offers = Offers::default();
        let images = Arc::new(some(there.path()));
        let bytes = images.bytes().unwrap();
        offers.put(TOKEN, node(2), images);
        assert!(offers.send(TOKEN, node(3)).is_err());
        let pieces = offers.send(TOKEN, node(2)).unwrap();
        assert!(offers.send(TOKEN, node(2)).is_err());
        let taken = Images::new(here.path(), TOKEN).unwrap();
        let mut seen = 0;
        let pieces = tokio_stream::wrappers::ReceiverStream::new(pieces);
        taken.take(pieces, bytes, |bytes| seen = bytes).await.unwrap();
        assert_eq!(
            (seen, taken.names().unwrap()),
            (3 << 20, vec!["core-1.img".to_owned(), "empty.img".to_owned()])
        );
        let path = taken.path().to_owned();
        drop(taken);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_not_an_image_is_refused() {
        let here = tempfile::tempdir().unwrap();
        let piece = |kind| Ok(v1::ImagePiece { kind: Some(kind) });
        let data = |length| Kind::Data(Bytes::from(vec![0; length]));
        let name = |name: &str| Kind::Name(name.to_owned());
        for (number, pieces) in [
            vec![name("../x.img")],
            vec![name(".img")],
            vec![name("x")],
            vec![data(1)],
            vec![name("a.img"), data(5)],
            vec![name("a.img"), data(3)],
            vec![name("a.img"), data(2), name("a.img"), data(2)],
        ]
        .into_iter()
        .enumerate()
        {
            let images = Images::new(here.path(), ImagesToken([number as u8; 16])).unwrap();
            let pieces = tokio_stream::iter(pieces.into_iter().map(piece).collect::<Vec<_>>());
            assert!(images.take(pieces, 4, |_| {}).await.is_err(), "{number}");
        }
    }
}
