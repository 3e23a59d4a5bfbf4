//! An agent that is given the manager's URL: each instance is followed where it is now, whenever the manager learns of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::fake::{FakeInstance, group, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    (
        "an_instance_that_the_manager_knows_of_later_is_followed_too",
        an_instance_that_the_manager_knows_of_later_is_followed_too,
    ),
    (
        "an_instance_that_the_manager_has_lost_is_followed_where_it_comes_back",
        an_instance_that_the_manager_has_lost_is_followed_where_it_comes_back,
    ),
];

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A manager as agents see it: its health, over HTTP on loopback.
struct FakeManager {
    address: SocketAddr,
    urls: watch::Sender<[Option<String>; 2]>,
    /// So many times what is told now has been told.
    told: watch::Receiver<usize>,
}

impl FakeManager {
    fn start(world: &World, urls: [Option<String>; 2]) -> FakeManager {
        let (sender, urls) = watch::channel(urls);
        let (count, told) = watch::channel(0);
        // The test's own thread is in another namespace.
        let bind = world.runtime.spawn(TcpListener::bind(LOOPBACK));
        let listener = world.runtime.block_on(bind).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        world.runtime.spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let body = health(&urls.borrow());
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
                count.send_modify(|count| *count += 1);
            }
        });
        FakeManager {
            address,
            urls: sender,
            told,
        }
    }

    fn knows(&self, urls: [Option<String>; 2]) {
        self.urls.send_replace(urls);
    }

    /// Waits until somebody has been told what the manager knows now. The answer under way may be of before, the one after it is not.
    fn is_asked(&self, world: &World) {
        let before = *self.told.borrow();
        world.wait_until("the manager is asked", || *self.told.borrow() >= before + 2);
    }
}

fn health(urls: &[Option<String>; 2]) -> String {
    let instance = |(index, url): (usize, &Option<String>)| {
        let url = url.as_ref().map_or("null".to_owned(), |url| format!("\"{url}\""));
        format!(r#"{{"index":{index},"state":"up","agentUrl":{url}}}"#)
    };
    let instances: Vec<String> = urls.iter().enumerate().map(instance).collect();
    format!(r#"{{"status":"ok","instances":[{}]}}"#, instances.join(","))
}

const DESTINATION: &str = "10.250.0.0/16";

fn instance(world: &World, index: u32, epoch: u64, gateway: &str) -> FakeInstance {
    let table = update(1, vec![group(1, &[gateway])], vec![via_group(DESTINATION, 1)]);
    world.instance(world.greeting(index, epoch, table))
}

fn an_instance_that_the_manager_knows_of_later_is_followed_too() {
    let mut world = World::new();
    let (first, second) = (instance(&world, 0, 1, "10.1.1.4"), instance(&world, 1, 1, "10.1.1.5"));
    let manager = FakeManager::start(&world, [None, Some(second.url())]);
    let server = format!("http://{}", manager.address);
    world.start_agent_with(&[], |options| options.servers = vec![server]);
    assert_eq!(second.confirmed(1), Vec::<String>::new());
    assert_eq!(world.gateways(DESTINATION), ["10.1.1.5"]);
    manager.knows([Some(first.url()), Some(second.url())]);
    world.wait_until("both next hops", || {
        world.gateways(DESTINATION) == ["10.1.1.4", "10.1.1.5"]
    });
}

fn an_instance_that_the_manager_has_lost_is_followed_where_it_comes_back() {
    let mut world = World::new();
    let (first, second) = (instance(&world, 0, 1, "10.1.1.4"), instance(&world, 1, 1, "10.1.1.5"));
    let manager = FakeManager::start(&world, [Some(first.url()), Some(second.url())]);
    let server = format!("http://{}", manager.address);
    world.start_agent_with(&[], |options| options.servers = vec![server]);
    world.wait_until("both next hops", || {
        world.gateways(DESTINATION) == ["10.1.1.4", "10.1.1.5"]
    });
    manager.knows([None, Some(second.url())]);
    first.stop();
    manager.is_asked(&world);
    let first = instance(&world, 0, 2, "10.1.1.6");
    manager.knows([Some(first.url()), Some(second.url())]);
    world.wait_until("its next hop of another life", || {
        world.gateways(DESTINATION) == ["10.1.1.5", "10.1.1.6"]
    });
}
