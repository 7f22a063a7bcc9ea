//! Nodes in memory: the model server behind a real gRPC server, on streams that can be refused, frozen
//! and cut, before or after any request.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use mfs_proto::v1;
use mfs_proto::v1::files_server::{Files, FilesServer};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::server::{Server, entry};
use crate::membership::{Member, MemberState, View};
use crate::net::connect::Dialling;
use crate::net::{ConnectError, Connector, IoStream};
use crate::sync::Mutex;
use crate::types::op::Outcome;
use crate::types::{Leases, NodeId, NodeName, NodeNumber, Verifier};
use crate::wire::{ClientMessage, Purpose, Recall, Reply, ServerMessage};

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// All connections break before it is executed.
    CutBefore,
    /// All connections break when it is executed, before its reply.
    CutAfter,
    /// mfsd is restarted before it is executed.
    RestartBefore,
    /// mfsd is restarted when it is executed, before its reply.
    RestartAfter,
    /// Leases are asked for when it is executed, before its reply.
    RecallAfter,
}

/// How a node takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// As it should.
    Open,
    /// Its host answers, nothing listens.
    Refuses,
    /// Its host does not answer; connections that are up carry nothing any more.
    Silent,
    /// Connections are taken, and nothing is ever said over them.
    Mute,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) server: Mutex<Server>,
    door: Mutex<Door>,
    /// Faults by the number of the request, from 0.
    faults: Mutex<BTreeMap<u64, Fault>>,
    requests: Mutex<u64>,
    /// Whether requests are answered.
    hangs: watch::Sender<bool>,
    /// Counts up when connections are to break.
    cuts: watch::Sender<u64>,
    frozen: watch::Sender<bool>,
    pub(crate) dialled: Mutex<u64>,
    incoming: mpsc::UnboundedSender<DuplexStream>,
    /// The control stream that was opened last.
    control: Mutex<Option<mpsc::UnboundedSender<Result<v1::Reply, Status>>>>,
    recalls: Mutex<u64>,
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Network {
    nodes: HashMap<NodeId, Arc<Node>>,
}

/// The service of one node.
struct Service(Arc<Node>);

// === impl Node ===

impl Node {
    fn start(id: NodeId) -> Arc<Self> {
        let (incoming, streams) = mpsc::unbounded_channel();
        let mut server = Server::new();
        server.node = id;
        let node = Arc::new(Self {
            id,
            server: Mutex::new(server),
            door: Mutex::new(Door::Open),
            faults: Mutex::default(),
            requests: Mutex::default(),
            hangs: watch::channel(false).0,
            cuts: watch::channel(0).0,
            frozen: watch::channel(false).0,
            dialled: Mutex::default(),
            incoming,
            control: Mutex::default(),
            recalls: Mutex::default(),
        });
        let streams = UnboundedReceiverStream::new(streams).map(Ok::<_, std::io::Error>);
        let service = FilesServer::new(Service(Arc::clone(&node)));
        let serving =
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(streams);
        tokio::spawn(serving);
        node
    }

    /// How it takes connections from now on.
    pub(crate) fn set_door(&self, door: Door) {
        *self.door.lock() = door;
        self.frozen.send_replace(door == Door::Silent);
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Restarts mfsd: it is gone, and back at once.
    pub(crate) fn restart(&self) {
        self.server.lock().restart();
        self.cut();
    }

    /// Answers nothing from now on, or everything again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    /// Asks for leases on the file that all answers of the model server are about; says under which number.
    pub(crate) fn recall(&self, leases: Leases) -> u64 {
        let id = {
            let mut recalls = self.recalls.lock();
            *recalls += 1;
            *recalls
        };
        let recall = Recall { id, files: vec![(entry("x").attr.ino, leases)], deadline_ms: 1_000 };
        if let Some(control) = &*self.control.lock() {
            drop(control.send(Ok(ServerMessage::Recall(recall).into())));
        }
        id
    }

    /// Lets something happen at the `nth` request, counted from now.
    pub(crate) fn plan(&self, nth: u64, fault: Fault) {
        *self.requests.lock() = 0;
        self.faults.lock().insert(nth, fault);
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut requests = self.requests.lock();
        let fault = self.faults.lock().remove(&requests);
        *requests += 1;
        fault
    }

    /// Carries bytes between a client and the server until the connection is cut.
    async fn relay(self: Arc<Self>, mut client: DuplexStream, mut server: DuplexStream) {
        let mut cuts = self.cuts.subscribe();
        let mut frozen = self.frozen.subscribe();
        let carrying = async {
            loop {
                drop(frozen.wait_for(|frozen| !frozen).await);
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                    _ = frozen.wait_for(|frozen| *frozen) => {}
                }
            }
        };
        tokio::select! {
            () = carrying => {}
            _ = cuts.changed() => {}
        }
    }
}

// === impl Network ===

impl Network {
    /// A network of `count` nodes, and the view of them. Must be called within a runtime.
    pub(crate) fn new(count: u8) -> (Arc<Self>, watch::Sender<View>) {
        let ids = (1..=count).map(|n| NodeId::from_digest([n; 32]));
        let nodes: HashMap<_, _> = ids.map(|id| (id, Node::start(id))).collect();
        let members = nodes.keys().map(|id| member(*id, MemberState::Alive));
        let view = View::new(NodeId::from_digest([0; 32]), members.collect::<Vec<_>>());
        (Arc::new(Self { nodes }), watch::Sender::new(view))
    }

    /// The node with this number, from 1.
    pub(crate) fn node(&self, number: u8) -> &Arc<Node> {
        &self.nodes[&NodeId::from_digest([number; 32])]
    }
}

/// A member as the tests know it.
pub(crate) fn member(id: NodeId, state: MemberState) -> Member {
    let number = id.as_bytes()[0];
    Member {
        id,
        name: NodeName::parse(&format!("n{number}")).expect("a good name"),
        number: NodeNumber::new(number.into()).expect("not 0"),
        addresses: vec![],
        state,
        since: 0,
        incarnation: 1,
        version: String::new(),
    }
}

impl Connector for Network {
    fn connect<'a>(&'a self, member: &'a Member, _: Purpose) -> Dialling<'a> {
        Box::pin(async move {
            let node = &self.nodes[&member.id];
            *node.dialled.lock() += 1;
            let (near, client) = tokio::io::duplex(1 << 20);
            let door = *node.door.lock();
            match door {
                Door::Refuses => return Err(ConnectError::Refused("refused".to_owned())),
                Door::Silent => {
                    tokio::time::sleep(crate::net::tcp::CONNECT_TIMEOUT).await;
                    return Err(ConnectError::Silent("silent".to_owned()));
                }
                Door::Mute => {
                    tokio::spawn(async move {
                        let _held = client;
                        std::future::pending::<()>().await;
                    });
                }
                Door::Open => {
                    let (server, far) = tokio::io::duplex(1 << 20);
                    drop(node.incoming.send(far));
                    tokio::spawn(Arc::clone(node).relay(client, server));
                }
            }
            Ok(Box::new(near) as Box<dyn IoStream>)
        })
    }
}

// === impl Service ===

#[tonic::async_trait]
impl Files for Service {
    type OperateStream = Pin<Box<dyn Stream<Item = Result<v1::Reply, Status>> + Send>>;

    async fn operate(
        &self,
        request: Request<Streaming<v1::Request>>,
    ) -> Result<Response<Self::OperateStream>, Status> {
        let node = Arc::clone(&self.0);
        let (replies, outgoing) = mpsc::unbounded_channel();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                let answer = match ClientMessage::try_from(message) {
                    Ok(ClientMessage::Hello(hello)) => {
                        if hello.purpose == Purpose::Control {
                            *node.control.lock() = Some(replies.clone());
                        }
                        let mut welcome = node.server.lock().welcome();
                        welcome.features &= hello.features;
                        ServerMessage::Welcome(Box::new(welcome))
                    }
                    Ok(ClientMessage::Return(lease)) => {
                        node.server.lock().returned.push(lease);
                        continue;
                    }
                    Ok(ClientMessage::Renew(id)) => {
                        if *node.hangs.borrow() {
                            continue;
                        }
                        let mut server = node.server.lock();
                        server.renewed += 1;
                        let (verifier, leases) = (Verifier(server.verifier), Leases::empty());
                        let result = Ok(Outcome::Done(()));
                        ServerMessage::Reply(Reply { id, verifier, leases, result })
                    }
                    Ok(ClientMessage::Request(request)) => {
                        if *node.hangs.borrow() {
                            continue;
                        }
                        let fault = node.next_fault();
                        match fault {
                            Some(Fault::CutBefore) => {
                                node.cut();
                                return;
                            }
                            Some(Fault::RestartBefore) => {
                                node.restart();
                                return;
                            }
                            _ => {}
                        }
                        let reply = node.server.lock().serve(&request);
                        match fault {
                            Some(Fault::CutAfter) => {
                                node.cut();
                                return;
                            }
                            Some(Fault::RestartAfter) => {
                                node.restart();
                                return;
                            }
                            Some(Fault::RecallAfter) => drop(node.recall(Leases::all())),
                            _ => {}
                        }
                        ServerMessage::Reply(reply)
                    }
                    Ok(ClientMessage::Goodbye) => {
                        node.server.lock().forget_session();
                        return;
                    }
                    Ok(_) => continue,
                    Err(malformed) => {
                        unreachable!("the client sent what is malformed: {malformed}")
                    }
                };
                if replies.send(Ok(v1::Reply::from(answer))).is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outgoing))))
    }
}
