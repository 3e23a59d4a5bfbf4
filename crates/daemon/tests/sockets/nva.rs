//! An NVA of our own: bgp::session on daemon::connection.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bgp::session::{ConnectionId, Direction, DownReason, Input, Negotiated, Output, Session, SessionConfig};
use bgp::wire::{Message, Origin, PathAttributes, pack_announcement, pack_end_of_rib, pack_withdrawal};
use bgp::{Asn, BgpIdentifier, Family, IpNet};
use bytes::BytesMut;
use daemon::connection::{BGP_PORT, Connection, ConnectionEvent, DialOptions, SocketError, dial};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::world::soon;

/// What the NVA knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) established: bool,
    pub(crate) learned: BTreeSet<IpNet>,
    /// Code and subcode of the NOTIFICATION that ended the last session.
    pub(crate) notification: Option<(u8, u8)>,
    /// How often the session came up.
    pub(crate) ups: u32,
    /// What happened since [`Nva::watch`] that a peer whose own routes did not change should not notice: sessions that ended, refreshes
    /// that were asked for, watched prefixes that were told again or withdrawn.
    pub(crate) noticed: Vec<String>,
}

enum Event {
    Connection(ConnectionEvent),
    Dialled(Result<TcpStream, SocketError>),
    Announce(Vec<IpNet>),
    Withdraw(Vec<IpNet>),
    Watch(Vec<IpNet>),
}

impl From<ConnectionEvent> for Event {
    fn from(event: ConnectionEvent) -> Event {
        Event::Connection(event)
    }
}

/// Runs until dropped.
pub(crate) struct Nva {
    seen: watch::Receiver<Seen>,
    events: mpsc::Sender<Event>,
    task: JoinHandle<()>,
}

impl Drop for Nva {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Nva {
    /// Dials an instance from this address, until it answers.
    pub(crate) fn start(local: &str, asn: u32, instance: &str, md5_password: Option<&str>) -> Nva {
        Nva::start_with(local, asn, instance, md5_password, |_| {})
    }

    pub(crate) fn start_without_route_refresh(local: &str, asn: u32, instance: &str) -> Nva {
        Nva::start_with(local, asn, instance, None, |config| {
            config.capabilities.route_refresh = false;
        })
    }

    pub(crate) fn start_with(
        local: &str,
        asn: u32,
        instance: &str,
        md5_password: Option<&str>,
        edit: impl FnOnce(&mut SessionConfig),
    ) -> Nva {
        let local: IpAddr = local.parse().unwrap();
        let IpAddr::V4(identifier) = local else {
            panic!("IPv4 only")
        };
        let mut config = SessionConfig::azure(BgpIdentifier(identifier), instance.parse().unwrap(), Asn(65515));
        config.local_asn = Asn(asn);
        config.connect_retry = std::time::Duration::from_millis(200);
        edit(&mut config);
        let (events, inbox) = mpsc::channel(64);
        let (seen_sender, seen) = watch::channel(Seen::default());
        let dial = DialOptions {
            local,
            remote: SocketAddr::new(instance.parse().unwrap(), BGP_PORT),
            namespace: None,
            md5_password: md5_password.map(bgp::Password::from),
            ttl_security_hops: None,
        };
        let speaker = Speaker {
            session: Session::new(config),
            dial,
            asn: Asn(asn),
            connection: None,
            up: None,
            watched: None,
            next: 0,
            seen: seen_sender,
            events: events.clone(),
        };
        Nva {
            seen,
            events,
            task: tokio::spawn(speaker.run(inbox)),
        }
    }

    pub(crate) async fn announce(&self, prefixes: impl IntoIterator<Item = IpNet>) {
        self.is_up().await;
        let _ = self.events.send(Event::Announce(prefixes.into_iter().collect())).await;
    }

    pub(crate) async fn withdraw(&self, prefixes: impl IntoIterator<Item = IpNet>) {
        self.is_up().await;
        let _ = self.events.send(Event::Withdraw(prefixes.into_iter().collect())).await;
    }

    /// From now on notes what it should not notice, see [`Seen::noticed`].
    pub(crate) async fn watch(&self, prefixes: impl IntoIterator<Item = IpNet>) {
        let _ = self.events.send(Event::Watch(prefixes.into_iter().collect())).await;
    }

    /// What it knows now.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The session is Established for us too: the other side may say so a moment earlier.
    async fn is_up(&self) {
        self.sees("our side of the session", |seen| seen.established).await;
    }

    pub(crate) async fn sees(&self, what: &str, condition: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        soon(what, seen.wait_for(condition)).await.unwrap().clone()
    }
}

struct Speaker {
    session: Session,
    dial: DialOptions,
    asn: Asn,
    connection: Option<Connection>,
    up: Option<Negotiated>,
    watched: Option<BTreeSet<IpNet>>,
    next: u64,
    seen: watch::Sender<Seen>,
    events: mpsc::Sender<Event>,
}

impl Speaker {
    async fn run(mut self, mut inbox: mpsc::Receiver<Event>) {
        self.session.handle(Instant::now(), Input::Start);
        loop {
            while let Some(output) = self.session.poll_output() {
                self.carry_out(output);
            }
            let deadline = self
                .session
                .poll_timeout()
                .map_or(Instant::now() + crate::world::DEADLINE, |at| at);
            tokio::select! {
                event = inbox.recv() => self.take(event.unwrap()),
                () = tokio::time::sleep_until(deadline.into()) => self.session.handle_timeout(Instant::now()),
            }
        }
    }

    fn take(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Dialled(Ok(stream)) => {
                self.next += 1;
                let connection = ConnectionId(self.next);
                self.connection = Some(Connection::spawn(connection, stream, None, self.events.clone()));
                self.session.handle(
                    now,
                    Input::Connected {
                        connection,
                        direction: Direction::Dialled,
                    },
                );
            }
            Event::Dialled(Err(error)) => self.session.handle(
                now,
                Input::DialFailed {
                    reason: error.to_string(),
                },
            ),
            Event::Connection(ConnectionEvent::Received { connection, messages }) => {
                for message in messages {
                    self.session.handle(now, Input::Received { connection, message });
                    while let Some(output) = self.session.poll_output() {
                        self.carry_out(output);
                    }
                }
            }
            Event::Connection(ConnectionEvent::Malformed { connection, error }) => {
                self.session.handle(now, Input::Malformed { connection, error });
            }
            Event::Connection(ConnectionEvent::Closed { connection, reason }) => {
                self.session.handle(now, Input::Closed { connection, reason });
            }
            Event::Connection(_) => {}
            Event::Announce(prefixes) => self.announce(prefixes),
            Event::Watch(prefixes) => self.watched = Some(prefixes.into_iter().collect()),
            Event::Withdraw(prefixes) => {
                let mut bytes = BytesMut::new();
                let encode = self.up.as_ref().unwrap().encode;
                pack_withdrawal(&mut bytes, encode, Family::Ipv4Unicast, prefixes);
                self.connection.as_ref().unwrap().write(bytes.freeze());
            }
        }
    }

    fn announce(&mut self, prefixes: Vec<IpNet>) {
        let mut bytes = BytesMut::new();
        let attributes = PathAttributes::builder(self.dial.local)
            .origin(Origin::Igp)
            .prepend(self.asn, 1)
            .build();
        let encode = self.up.as_ref().unwrap().encode;
        pack_announcement(&mut bytes, encode, &attributes, Family::Ipv4Unicast, prefixes);
        for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
            pack_end_of_rib(&mut bytes, family);
        }
        self.connection.as_ref().unwrap().write(bytes.freeze());
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial => {
                let (options, events) = (self.dial.clone(), self.events.clone());
                tokio::spawn(async move { events.send(Event::Dialled(dial(options).await)).await });
            }
            Output::Send { message, .. } => {
                let mut bytes = BytesMut::new();
                message.encode(&mut bytes);
                self.connection.as_ref().unwrap().write(bytes.freeze());
            }
            Output::SetDecodeContext { context, .. } => self.connection.as_ref().unwrap().set_context(context),
            Output::Close { .. } => self.connection = None,
            Output::Established(negotiated) => {
                self.up = Some(negotiated);
                self.seen.send_modify(|seen| {
                    seen.established = true;
                    seen.ups += 1;
                });
            }
            Output::Down(reason) => self.down(&reason),
            Output::AttemptFailed(_) => {}
            Output::Update(update) => self.seen.send_modify(|seen| {
                if let Some(watched) = &self.watched {
                    let announced = update.announced.iter().flat_map(|each| &each.prefixes);
                    let told = announced
                        .chain(&update.withdrawn)
                        .filter(|prefix| watched.contains(prefix));
                    seen.noticed
                        .extend(told.map(|prefix| format!("{prefix} was told again")));
                }
                for prefix in &update.withdrawn {
                    seen.learned.remove(prefix);
                }
                seen.learned
                    .extend(update.announced.iter().flat_map(|each| each.prefixes.iter().copied()));
            }),
            Output::Refresh(_) => self.notices("asked for a refresh"),
        }
    }

    fn notices(&self, what: &str) {
        if self.watched.is_some() {
            self.seen.send_modify(|seen| seen.noticed.push(what.to_owned()));
        }
    }

    fn down(&mut self, reason: &DownReason) {
        self.notices(&format!("the session ended: {reason}"));
        let notification = match reason {
            DownReason::NotificationReceived(notification) => Some((notification.code, notification.subcode)),
            _ => None,
        };
        self.seen.send_modify(|seen| {
            seen.notification = notification;
            seen.established = false;
            seen.learned.clear();
        });
    }
}

/// A peer that says all the right things until it is Established, and then reads nothing any more.
pub(crate) async fn establish_and_fall_asleep(local: &str, asn: u32, instance: &str) -> TcpStream {
    use bgp::wire::{Capability, Open};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let local: IpAddr = local.parse().unwrap();
    let IpAddr::V4(identifier) = local else {
        panic!("IPv4 only")
    };
    let remote = SocketAddr::new(instance.parse().unwrap(), BGP_PORT);
    let options = DialOptions {
        local,
        remote,
        namespace: None,
        md5_password: None,
        ttl_security_hops: None,
    };
    let mut stream = soon("the instance listens", async {
        loop {
            if let Ok(stream) = dial(options.clone()).await {
                return stream;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let open = Open {
        asn: Asn(asn),
        hold_time_secs: 0,
        identifier: BgpIdentifier(identifier),
        capabilities: vec![
            Capability::MultiProtocol(Family::Ipv4Unicast),
            Capability::FourOctetAs(Asn(asn)),
        ],
    };
    let mut bytes = BytesMut::new();
    Message::Open(open).encode(&mut bytes);
    Message::Keepalive.encode(&mut bytes);
    stream.write_all(&bytes).await.unwrap();
    // The instance's OPEN and KEEPALIVE.
    soon("the instance answers", stream.read_exact(&mut [0; 48]))
        .await
        .unwrap();
    stream
}
