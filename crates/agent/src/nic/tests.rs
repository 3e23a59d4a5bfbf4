//! Without a NIC: what a thread makes of news, and how it works with a kernel that has nothing of what it believes to be installed.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::layers::Layers;
use crate::merge::NicFacts;
use crate::plan::KernelWay;
use crate::table::{SharedTable, Table, TableRoute, Way};

/// Loopback: everywhere there, and nobody's NIC.
const LINK: u32 = 1;
const OTHER_LINK: u32 = 7;
/// Nobody has routes in it.
const TABLE: u32 = 0x5257_0063;
const ADDRESS: &str = "10.1.0.5";
const OWN_ID: u32 = 0x5257_0001;
const OTHER_ID: u32 = 0x5257_0002;

struct World {
    task: NicTask,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// One instance has said that there are no routes; these are believed to be installed.
    fn new(routes: u32) -> World {
        let (_, inputs) = mpsc::channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut task = NicTask::new(options(), inputs);
        for said in [
            Said::Welcome { epoch: 1 },
            Said::Table(facts(), Layers::from(SharedTable::new(Table::default()))),
            Said::Converged(true),
        ] {
            task.take(Input {
                voice: 0,
                said,
                confirm: None,
            });
        }
        task.link = Some(Link {
            index: LINK,
            name: "lo".to_owned(),
            running: true,
            loopback: true,
        });
        task.look = Look::No;
        task.table = Some(believed(routes));
        World {
            task,
            runtime: runtime.unwrap(),
        }
    }

    fn with_sockets(mut self) -> World {
        let _entered = self.runtime.enter();
        let kernel = Kernel::open().unwrap();
        let monitor = Monitor::open(kernel.port()).unwrap();
        self.task.sockets = Some((kernel, monitor));
        self
    }

    #[track_caller]
    fn hears(&mut self, news: News, look: Look) {
        self.task.look = Look::No;
        self.task.heard(news);
        assert_eq!(self.task.look, look);
    }

    fn believed(&self) -> &Installed {
        &self.task.table.as_ref().unwrap().installed
    }
}

fn options() -> NicOptions {
    NicOptions {
        spec: NicSpec {
            id: "/nic".to_owned(),
            namespace: None,
            table: TABLE,
        },
        voices: 1,
        system_routes: true,
        resilient: None,
        kernel_settings: KernelSettings::Leave,
        confirmations: vec![Confirmations::default()],
    }
}

fn facts() -> NicFacts {
    NicFacts {
        addresses: vec![ADDRESS.parse().unwrap()],
        ..NicFacts::default()
    }
}

fn believed(routes: u32) -> TableState {
    let target = Target {
        link: LINK,
        table: TABLE,
    };
    let mut installed = Installed::default();
    for n in 0..routes {
        let prefix = IpNet::new([20, 0, (n >> 8) as u8, n as u8].into(), 32).unwrap();
        installed.add_route(prefix, KernelWay::Blackhole);
    }
    TableState {
        target,
        planner: Planner::new(&installed, first_id(target)),
        installed,
        unanswered: false,
        overwritten: false,
    }
}

/// The kernel was read so lately, and that took so long, that it may not be read for an hour.
fn just_read() -> Option<(Instant, Duration)> {
    Some((Instant::now(), Duration::from_secs(900)))
}

#[test]
fn what_is_refused_is_looked_into_at_once_also_while_the_kernel_may_not_be_read_for_less() {
    let mut world = World::new(1).with_sockets();
    world.task.look = Look::AtTable;
    world.task.last_read = just_read();
    // The removal of a route that is not there is refused.
    assert_eq!(world.task.install().unwrap(), Some((Vec::new(), false)));
    assert!(world.believed().routes().is_empty(), "it has been read");
    assert_eq!(world.task.look, Look::No);
    // Once: whoever goes on to change what is ours does not have it read all the time.
    world.task.table = Some(believed(1));
    world.task.look = Look::AtTable;
    world.task.last_read = just_read();
    let (problems, failed) = world.task.install().unwrap().unwrap();
    assert!(failed && problems.len() == 1, "{problems:?}");
    assert_eq!(world.believed().routes().len(), 1, "it has not");
    world.task.last_read = None;
    world.task.install().unwrap();
    assert!(world.believed().routes().is_empty() && !world.task.read_early);
}

#[test]
fn where_somebody_elses_route_may_be_nothing_is_replaced_before_it_is_seen() {
    let prefix: IpNet = "20.0.0.0/24".parse().unwrap();
    let mut table = Table::default();
    let (way, system) = (Way::Blackhole, false);
    table.routes.insert(prefix, TableRoute { way, system });
    let mut world = World::new(0);
    let said = Said::Table(facts(), Layers::from(SharedTable::new(table)));
    world.task.merge.handle(0, said);
    world.hears(News::ForeignRoute("20.9.0.0/24".parse().unwrap()), Look::No);
    assert!(world.task.is_table_known());
    world.hears(News::ForeignRoute(prefix), Look::AtTable);
    world.task.last_read = just_read();
    assert_eq!(world.task.install().unwrap(), None);

    let mut world = World::new(0).with_sockets();
    world.task.table.as_mut().unwrap().overwritten = true;
    world.task.look = Look::AtTable;
    assert!(world.task.install().unwrap().is_some());
    assert!(world.task.is_table_known(), "it has been read");
}

#[test]
fn what_instances_say_does_not_wait_until_the_kernel_may_be_read_again() {
    let mut world = World::new(0).with_sockets();
    world.task.look = Look::AtTable;
    world.task.last_read = just_read();
    assert_eq!(world.task.install().unwrap(), Some((Vec::new(), false)));
    assert!(world.task.merge.take_dirty().is_empty(), "it has been worked off");
    assert_eq!(
        world.task.look,
        Look::AtTable,
        "what others changed is still to be read"
    );
    assert!(world.task.retry_at.is_some(), "and will be");
}

#[test]
fn a_table_that_was_never_read_is_not_worked_on_and_nothing_of_it_is_confirmed() {
    let mut world = World::new(0).with_sockets();
    world.task.table = None;
    world.task.last_read = just_read();
    assert_eq!(world.task.install().unwrap(), None);
    assert!(world.task.table.is_none() && world.task.retry_at.is_some());
    assert!(!world.task.merge.take_dirty().is_empty());
}

/// More answers than find room.
const MANY: u32 = 1_000;

#[test]
fn what_we_changed_ourselves_and_got_no_answer_for_is_nobodys_meddling() {
    let mut world = World::new(MANY).with_sockets();
    let (kernel, _) = world.task.sockets.as_mut().unwrap();
    kernel.set_receive_buffer(1).unwrap();
    assert!(kernel.link(LINK).unwrap().unwrap().running, "or nothing would count");
    let error = world.task.install().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");
    // Nothing is built on what is not known.
    world.task.merge.handle(0, Said::Table(facts(), Layers::default()));
    world.task.last_read = just_read();
    assert_eq!(world.task.install().unwrap(), None);
    assert!(!world.task.merge.take_dirty().is_empty() && world.task.look == Look::AtTable);
    world.task.last_read = None;
    // The kernel has carried all of that out, or so it looks.
    world.task.install().unwrap();
    assert!(world.believed().routes().is_empty());
    assert_eq!(world.task.repaired, 0);

    // What is not as it was read counts as ever.
    world.task.table = Some(believed(1));
    world.task.look = Look::AtTable;
    world.task.last_read = None;
    world.task.install().unwrap();
    assert_eq!(world.task.repaired, 1);
}

#[test]
fn addresses_matter_on_the_nics_link_and_those_of_the_nic_on_any() {
    let mut world = World::new(0);
    let (own, other) = (ADDRESS.parse().unwrap(), "172.17.0.1".parse().unwrap());
    let news = |link, address| News::Address { link, address };
    world.hears(news(OTHER_LINK, other), Look::No);
    world.hears(news(OTHER_LINK, own), Look::AtLink);
    world.hears(news(LINK, other), Look::AtLink);
    // A tunnel's, perhaps: next hops are behind it.
    world.task.options.spec.id = "/gw/instances/0".to_owned();
    world.hears(news(OTHER_LINK, other), Look::AtLink);
    world.task.options.spec.id = "/nic".to_owned();
    world.task.link = None;
    world.hears(news(OTHER_LINK, other), Look::AtLink);
}

#[test]
fn objects_of_another_nic_are_no_reason_to_read_the_table_and_their_ids_are_taken() {
    let mut world = World::new(0);
    let gateway = Some("10.1.1.4".parse().unwrap());
    let installed = &mut world.task.table.as_mut().unwrap().installed;
    installed.add_nexthop(OWN_ID, gateway);
    let news = |id, is_there| News::Nexthop { id, is_there };
    world.hears(news(OTHER_ID, true), Look::No);
    assert!(world.believed().has_id(OTHER_ID));
    world.hears(news(OTHER_ID, false), Look::No);
    assert!(!world.believed().has_id(OTHER_ID));
    for is_there in [true, false] {
        world.hears(news(OWN_ID, is_there), Look::AtTable);
        assert_eq!(world.believed().nexthops()[&OWN_ID], gateway, "that is to be read");
    }
    let installed = &mut world.task.table.as_mut().unwrap().installed;
    installed.add_group(OTHER_ID, vec![OWN_ID]);
    world.hears(news(OTHER_ID, false), Look::AtTable);
}
