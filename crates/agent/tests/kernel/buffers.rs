//! Answers of the kernel that find no room, or that nobody has read.

use std::os::fd::AsRawFd;

use agent::netlink::{Kernel, Target};
use agent::plan::{KernelWay, Op};
use ipnet::IpNet;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::Pid;

use super::fake::{group, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    (
        "answers_that_find_no_room_are_an_error_and_the_next_question_is_answered",
        answers_that_find_no_room_are_an_error_and_the_next_question_is_answered,
    ),
    (
        "a_kernel_that_is_busy_with_an_answer_that_nobody_reads_is_asked_all_the_same",
        a_kernel_that_is_busy_with_an_answer_that_nobody_reads_is_asked_all_the_same,
    ),
    (
        "what_somebody_removed_comes_back_although_the_kernels_announcement_found_no_room",
        what_somebody_removed_comes_back_although_the_kernels_announcement_found_no_room,
    ),
];

/// The kernel makes of it the least that it grants, a few answers.
const LITTLE: usize = 1;

fn answers_that_find_no_room_are_an_error_and_the_next_question_is_answered() {
    // The test's thread moves into its namespace.
    let world = World::new();
    let mut kernel = Kernel::open().unwrap();
    kernel.set_receive_buffer(LITTLE).unwrap();
    let link = kernel.find_link("10.1.0.5".parse().unwrap()).unwrap().unwrap();
    let target = Target {
        link: link.index,
        table: 254,
    };
    let prefixes = (0..1_000).map(prefix);
    // None is there, so each is answered with an error of its own.
    let removals: Vec<Op> = prefixes.map(|prefix| Op::DeleteRoute { prefix }).collect();
    let error = kernel.apply(target, &removals).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");

    // What was left of that is no answer to what comes now.
    let installed = kernel.read(target).unwrap();
    assert!(installed.routes().is_empty());
    let failures = kernel.apply(target, &removals[..2]).unwrap();
    assert_eq!(failures.iter().map(|failure| failure.index).collect::<Vec<_>>(), [0, 1]);
    drop(world);
}

/// More than fits into the first pieces of an answer.
const MANY: u32 = 10_000;

fn a_kernel_that_is_busy_with_an_answer_that_nobody_reads_is_asked_all_the_same() {
    let world = World::new();
    let mut kernel = Kernel::open().unwrap();
    let link = kernel.find_link("10.1.0.5".parse().unwrap()).unwrap().unwrap();
    let target = Target {
        link: link.index,
        table: 254,
    };
    let many: Vec<Op> = (0..MANY).map(blackhole).collect();
    assert_eq!(kernel.apply(target, &many).unwrap(), []);

    // Somebody asks on the agent's socket for all routes and does not read on, as after an error in the middle.
    let socket = kernel.as_raw_fd();
    send(socket, &all_routes(1), MsgFlags::empty()).unwrap();
    send(socket, &all_routes(2), MsgFlags::empty()).unwrap();
    assert_eq!(answer_to(socket, 2), libc::EBUSY);

    assert_eq!(kernel.read(target).unwrap().routes().len(), MANY as usize);
    drop(world);
}

/// Announcements that fill any buffer of the agent's.
const FLOOD: u32 = 30_000;

fn what_somebody_removed_comes_back_although_the_kernels_announcement_found_no_room() {
    const OURS: &str = "10.250.0.0/16";
    let world = World::new();
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group(OURS, 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    let mut agent = world.start_agent_process(&instance);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());

    let pid = Pid::from_raw(agent.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let elsewhere = Target { link: 0, table: 99 };
    let others: Vec<Op> = (0..FLOOD).map(blackhole).collect();
    assert_eq!(Kernel::open().unwrap().apply(elsewhere, &others).unwrap(), []);
    world.ip(&format!("route delete {OURS}"));
    assert!(lost_announcements() > 0, "there was room for all");
    kill(pid, Signal::SIGCONT).unwrap();

    world.wait_until("the route is back", || world.gateways(OURS) == ["10.1.1.4"]);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// What netlink sockets of this namespace have lost (`/proc/net/netlink`, column Drops).
fn lost_announcements() -> u64 {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let drops = |line: &str| line.split_whitespace().nth(8)?.parse::<u64>().ok();
    sockets.lines().filter_map(drops).sum()
}

fn blackhole(n: u32) -> Op {
    Op::AddRoute {
        prefix: prefix(n),
        way: KernelWay::Blackhole,
    }
}

fn prefix(n: u32) -> IpNet {
    IpNet::new([20, 0, (n >> 8) as u8, n as u8].into(), 32).unwrap()
}

/// struct nlmsghdr: length: u32; type, flags: u16; sequence, port: u32. struct rtmsg: family and eleven more octets.
fn all_routes(sequence: u32) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let header = [28_u32.to_ne_bytes(), sequence.to_ne_bytes(), [0; 4]];
    let kind = [libc::RTM_GETROUTE.to_ne_bytes(), flags.to_ne_bytes()].concat();
    let mut message = [&header[0][..], &kind, &header[1], &header[2]].concat();
    message.push(libc::AF_INET as u8);
    message.resize(28, 0);
    message
}

/// The error that a question is answered with, whatever else there is to be read before.
fn answer_to(socket: i32, sequence: u32) -> i32 {
    let mut datagram = vec![0; 64 << 10];
    loop {
        let length = recv(socket, &mut datagram, MsgFlags::empty()).unwrap();
        let mut messages = &datagram[..length];
        while messages.len() >= 20 {
            let word = |at: usize| u32::from_ne_bytes(messages[at..at + 4].try_into().unwrap());
            let kind = u16::from_ne_bytes([messages[4], messages[5]]);
            if (i32::from(kind), word(8)) == (libc::NLMSG_ERROR, sequence) {
                return -(word(16) as i32);
            }
            messages = &messages[(word(0) as usize).next_multiple_of(4).min(messages.len())..];
        }
    }
}
