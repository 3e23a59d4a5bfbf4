//! Connections that meet at one gateway, or at one circuit, must be told apart there: by what they join, by the addresses of the BGP
//! peers that they bring, and, where no BGP is spoken, by the prefixes that are said to be behind them.
//!
//! Everything that may be had once is a [`Claim`]; each end looks at the claims of all its connections together, so that the time this
//! takes grows with what there is and not with its square.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::local_network_gateways::site_of;
use super::{connections, express_route_peerings, virtual_network_gateways};
use crate::error::ArmError;
use crate::index::Relation;
use crate::resource::Resource;
use crate::world::World;

/// What one connection of an end may have, and no other of the same end.
#[derive(PartialEq, Eq, Hash)]
enum Claim {
    /// What is at the other end (key).
    FarEnd(String),
    /// The address of a BGP peer, or of the next hop that it tells.
    Peer(IpAddr),
    /// Where the tunnel to a site without BGP ends: what is behind it has that for a next hop.
    Tunnel(IpAddr),
    /// A static prefix.
    Prefix(IpNet),
}

/// A connection at one of its ends.
struct Claimant<'w> {
    connection: &'w Resource,
    /// What is at the other end.
    far: &'w Resource,
    /// Whether BGP is spoken over it.
    speaks: bool,
    claims: Vec<Claim>,
}

/// Refuses connections (keys) of a gateway that claim what another of its connections has.
pub(super) fn check_at_gateway(
    world: &World<'_>,
    gateway: &Resource,
    written: &BTreeSet<String>,
) -> Result<(), ArmError> {
    let claimants = at(world, gateway).filter_map(|connection| at_gateway(world, gateway, connection));
    check(world, gateway, claimants.collect(), written)
}

/// The same at a circuit, which peers with the gateways of all its connections.
pub(super) fn check_at_circuit(
    world: &World<'_>,
    circuit: &Resource,
    written: &BTreeSet<String>,
) -> Result<(), ArmError> {
    let claimants = at(world, circuit).filter_map(|connection| at_circuit(world, circuit, connection));
    check(world, circuit, claimants.collect(), written)
}

/// The connections that name what is at this end.
fn at<'w>(world: &'w World<'_>, end: &Resource) -> impl Iterator<Item = &'w Resource> + use<'w> {
    let holders = world.holder_ids(Relation::ConnectionOf, &end.key());
    holders.into_iter().filter_map(|id| world.get(&id.to_ascii_lowercase()))
}

fn at_gateway<'w>(world: &'w World<'_>, gateway: &Resource, connection: &'w Resource) -> Option<Claimant<'w>> {
    if connections::gateway_of(connection)? != gateway.key() {
        return None;
    }
    let (member, key) = connections::far_end(connection)?;
    let far = world.get(&key)?;
    let mut claims = vec![Claim::FarEnd(key)];
    let mut speaks = true;
    match member {
        connections::SITE => {
            let site = site_of(far);
            let speaker = site.speaker_over(gateway, connection);
            speaks = speaker.is_some();
            claims.extend(match speaker {
                Some((address, _)) => Some(Claim::Peer(address)),
                None => site.address.map(Claim::Tunnel),
            });
            claims.extend(site.prefixes.into_iter().map(Claim::Prefix));
        }
        connections::CIRCUIT => {
            for peering in world.children(&far.key(), "peerings") {
                let links = express_route_peerings::links(peering).map(|(links, _)| links);
                let links = links.into_iter().flatten().map(|link| IpAddr::V4(link.provider()));
                let links_v6 = express_route_peerings::links_v6(peering).into_iter().flatten();
                let links_v6 = links_v6.map(|link| IpAddr::V6(link.provider()));
                claims.extend(links.chain(links_v6).map(Claim::Peer));
            }
        }
        _ => {}
    }
    Some(Claimant {
        connection,
        far,
        speaks,
        claims,
    })
}

fn at_circuit<'w>(world: &'w World<'_>, circuit: &Resource, connection: &'w Resource) -> Option<Claimant<'w>> {
    if connections::far_end(connection)? != (connections::CIRCUIT, circuit.key()) {
        return None;
    }
    let far = world.get(&connections::gateway_of(connection)?)?;
    let addresses = virtual_network_gateways::addresses(far).into_iter().flatten();
    Some(Claimant {
        connection,
        far,
        speaks: true,
        claims: addresses.map(Claim::Peer).collect(),
    })
}

fn check(
    world: &World<'_>,
    end: &Resource,
    all: Vec<Claimant<'_>>,
    written: &BTreeSet<String>,
) -> Result<(), ArmError> {
    let mut by_claim: HashMap<&Claim, Vec<&Claimant<'_>>> = HashMap::new();
    for claimant in &all {
        for claim in &claimant.claims {
            by_claim.entry(claim).or_default().push(claimant);
        }
    }
    for one in all.iter().filter(|one| written.contains(&one.connection.key())) {
        for claim in &one.claims {
            let mut others = by_claim.get(claim).into_iter().flatten();
            if let Some(other) = others.find(|other| are_confused(claim, one, other)) {
                return Err(refusal(world, end, claim, one, other));
            }
        }
    }
    Ok(())
}

/// Whether both can't have this. Two routers of one site that both speak BGP are told apart by where they speak, and the prefixes that
/// are said of both are paths of equal cost.
fn are_confused(claim: &Claim, one: &Claimant<'_>, other: &Claimant<'_>) -> bool {
    let told_apart = matches!(claim, Claim::Prefix(_)) && one.speaks && other.speaks;
    one.connection.id != other.connection.id && !told_apart
}

fn refusal(world: &World<'_>, end: &Resource, claim: &Claim, one: &Claimant<'_>, other: &Claimant<'_>) -> ArmError {
    let same = match claim {
        Claim::FarEnd(_) => return already_connected(world, end, one, other),
        Claim::Peer(address) => format!("the BGP peer address {address}"),
        Claim::Tunnel(address) => format!("the gateway address {address}, and speak no BGP"),
        Claim::Prefix(prefix) => format!("the address prefix {prefix}"),
    };
    let (code, what) = match one.far.kind.as_str() {
        virtual_network_gateways::KIND => ("GatewaysNotDistinct", "Virtual network gateways"),
        super::EXPRESS_ROUTE_CIRCUIT => ("CircuitsNotDistinct", "ExpressRoute circuits"),
        _ => ("SitesNotDistinct", "Local network gateways"),
    };
    let error = ArmError::bad(
        code,
        format!(
            "{what} {} and {} both have {same}, and {} is connected with both. Change one of them, or disconnect it.",
            world.called(&one.far.id),
            world.called(&other.far.id),
            world.called(&end.id)
        ),
    );
    world.pointing_at(error, &one.far.id)
}

fn already_connected(world: &World<'_>, gateway: &Resource, one: &Claimant<'_>, other: &Claimant<'_>) -> ArmError {
    ArmError::bad(
        "AlreadyConnected",
        format!(
            "Connection {} can't join {} with {} because connection {} does. Change that one, or delete it first.",
            world.called(&one.connection.id),
            world.called(&gateway.id),
            world.called(&one.far.id),
            world.called(&other.connection.id)
        ),
    )
}
