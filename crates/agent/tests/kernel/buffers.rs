//! Answers of the kernel that find no room.

use agent::netlink::{Kernel, Target};
use agent::plan::Op;
use ipnet::IpNet;

use super::world::World;

pub const TESTS: &[(&str, fn())] = &[(
    "answers_that_find_no_room_are_an_error_and_the_next_question_is_answered",
    answers_that_find_no_room_are_an_error_and_the_next_question_is_answered,
)];

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
    let prefixes = (0..1_000_u32).map(|n| IpNet::new([20, 0, (n >> 8) as u8, n as u8].into(), 32).unwrap());
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
