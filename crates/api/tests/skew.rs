//! Instances and agents of two releases that follow each other understand each other.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use api::{agent, convert};
use prost::Message;
use routeserver::delivery::{Group, GroupId, TableId, TableUpdate, ToAgent};

/// What the release before sends and understands, octet by octet.
#[test]
fn a_loss_is_told_and_confirmed_in_words_that_the_release_before_knows() {
    let lost = TableUpdate {
        groups: vec![Group {
            id: GroupId(1),
            members: vec![],
            fallback: vec![],
            rank: rib::Rank(u64::MAX),
        }],
        removed_groups: vec![],
        removed: vec![],
        hides: None,
        table: TableId(7),
        generation: 3,
        routes: vec![],
    };
    let frames = convert::encode(&ToAgent::Delta(Arc::new(lost)));
    let rank = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let mut expected = vec![0, 0, 0, 0, 21, 0x22, 19, 0x08, 7, 0x10, 3, 0x1a, 13, 0x08, 1, 0x20];
    expected.extend(rank);
    assert_eq!(
        frames.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>(),
        [expected]
    );

    let installed = [0x12, 7, 0x0a, 1, b'n', 0x10, 7, 0x18, 3];
    let said = agent::FromAgent::decode(&installed[..]).unwrap();
    let Some(agent::from_agent::Body::Installed(installed)) = said.body else {
        panic!("{said:?}");
    };
    assert_eq!((installed.table, installed.generation), (7, 3));
    assert_eq!((installed.stranded, installed.repaired), (0, 0));
}

/// What an agent of this release says: what it has that the release before does not know comes in fields of their own, which that one skips.
#[test]
fn an_agents_hello_and_confirmation_are_those_of_the_release_before_with_more_behind() {
    let hello = agent::Hello {
        agent: "a".to_owned(),
        nics: vec!["n".to_owned()],
        layers: true,
    };
    let body = Some(agent::from_agent::Body::Hello(hello));
    let octets = agent::FromAgent { body }.encode_to_vec();
    assert_eq!(octets, [0x0a, 8, 0x0a, 1, b'a', 0x12, 1, b'n', 0x18, 1]);
    let installed = agent::Installed {
        nic: "n".to_owned(),
        table: 7,
        generation: 3,
        repaired: 1,
        ..agent::Installed::default()
    };
    let body = Some(agent::from_agent::Body::Installed(installed));
    let octets = agent::FromAgent { body }.encode_to_vec();
    assert_eq!(octets, [0x12, 9, 0x0a, 1, b'n', 0x10, 7, 0x18, 3, 0x40, 1]);

    // A Hello of the release before asks for no layers.
    let said = agent::FromAgent::decode(&[0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'n'][..]).unwrap();
    let Some(agent::from_agent::Body::Hello(hello)) = said.body else {
        panic!("{said:?}");
    };
    assert!(!hello.layers && hello.nics == ["n"]);
}
