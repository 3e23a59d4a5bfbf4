//! Export: what leaves a speaker. The role says what goes to whom; what is changed follows from whether the peer is of our AS.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bgp::wire::{Community, PathAttributes, PathAttributesBuilder};
use bgp::{Asn, BgpIdentifier, IpNet};
use rib::{ExportPolicy, GroupKey, Reshaped, RouteSource, Sender};

use super::{express_route_gateway, next_hop_self, provider_edge, route_server, vpn_gateway};
use crate::route_map::{KEPT_BACK, Outcome, Route, RouteMap};
use crate::speaker::Role;

/// The usual one (Azure shows none of its own).
const LOCAL_PREF: u32 = 100;

/// What one instance of a speaker tells its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportRules {
    pub(crate) role: Role,
    /// The speaker's AS number.
    pub(crate) asn: Asn,
    /// This instance's address.
    pub(crate) address: IpAddr,
    /// The one that it has besides for IPv6.
    pub(crate) address_v6: Option<Ipv6Addr>,
    /// Our own, which is also our CLUSTER_ID (RFC 4456 §7).
    pub(crate) identifier: BgpIdentifier,
    /// What is learned is passed on.
    pub(crate) branch_to_branch: bool,
    /// Stale routes (RFC 9494) are told to peers that do not know what that is, too.
    pub(crate) tells_stale: bool,
    /// What groups with a shape are told by, at the shape's number; `None`: no group has it.
    pub(crate) route_maps: Vec<Option<RouteMap>>,
}

impl ExportPolicy for ExportRules {
    fn export(&self, group: &GroupKey, from: Sender, attributes: &Arc<PathAttributes>) -> Option<PathAttributes> {
        match self.goes_out(group, from, attributes) {
            true => self.as_told(group, from, attributes),
            false => None,
        }
    }

    fn withheld(&self, group: &GroupKey) -> &[IpNet] {
        match self.role {
            Role::VpnGateway => vpn_gateway::withheld(group.source),
            Role::RouteServer | Role::ExpressRouteGateway | Role::ProviderEdge => &[],
        }
    }

    /// What may not go out does not come before the map; the map sees the route as the decision left it (az §3). What it adds is for the
    /// peer: a NO_EXPORT of the map's is told.
    fn reshape(
        &self,
        group: &GroupKey,
        prefix: &IpNet,
        from: Sender,
        attributes: &Arc<PathAttributes>,
    ) -> Option<Reshaped> {
        if !self.goes_out(group, from, attributes) {
            return None;
        }
        let route = Route::new(*prefix, PathAttributes::clone(attributes), from.source);
        let map = self.route_maps.get(group.shape? as usize)?.as_ref()?;
        let Outcome::Pass(route) = map.apply(route) else {
            return None;
        };
        let told = self.as_told(group, from, &route.attributes)?;
        Some(Reshaped {
            prefix: route.prefix,
            attributes: match route.med {
                Some(med) => told.to_builder().med(Some(med)).build(),
                None => told,
            },
            is_summary: route.is_summary,
            keeps_attributes: route.keeps_attributes,
        })
    }
}

impl ExportRules {
    fn goes_out(&self, group: &GroupKey, from: Sender, attributes: &PathAttributes) -> bool {
        let (to, source) = (group.source, from.source);
        let tells = match self.role {
            Role::RouteServer => route_server::tells(to, source, self.branch_to_branch),
            Role::VpnGateway => vpn_gateway::tells(to, source),
            Role::ExpressRouteGateway => express_route_gateway::tells(to, source),
            Role::ProviderEdge => provider_edge::tells(to, source),
        };
        tells && (is_of_virtual_networks(source) || !self.stays_here(group, attributes))
    }

    //= https://www.rfc-editor.org/rfc/rfc9494#section-4.3
    //# The route SHOULD NOT be advertised to any neighbor from which the Long-Lived Graceful Restart Capability has not been received.
    // What we persist is meant to hold everywhere: an operator who wants it has every peer told.
    fn is_stale_for(&self, group: &GroupKey, attributes: &PathAttributes) -> bool {
        attributes.has_community(Community::LLGR_STALE) && !group.long_lived && !self.tells_stale
    }

    /// Well-known communities.
    fn stays_here(&self, group: &GroupKey, attributes: &PathAttributes) -> bool {
        if self.is_stale_for(group, attributes) {
            return true;
        }
        if self.is_internal(group) {
            //= https://www.rfc-editor.org/rfc/rfc1997
            //# All routes received carrying a communities attribute containing this value
            //# MUST NOT be advertised to other BGP peers.
            return attributes.has_community(Community::NO_ADVERTISE);
        }
        //# ... containing this value MUST NOT be advertised outside a BGP confederation boundary
        KEPT_BACK.iter().any(|each| attributes.has_community(*each))
    }

    /// Peers of the group are of our own AS (iBGP).
    fn is_internal(&self, group: &GroupKey) -> bool {
        group.asn == Some(self.asn)
    }

    /// What leaves, as peers see it.
    fn as_told(&self, group: &GroupKey, from: Sender, attributes: &PathAttributes) -> Option<PathAttributes> {
        let told = match self.is_internal(group) {
            true => self.told_inside(from, attributes)?,
            false => self.told_outside(group, attributes)?,
        };
        let told = match self.role {
            Role::RouteServer => route_server::mark(told, group.source, from.source),
            Role::VpnGateway | Role::ExpressRouteGateway | Role::ProviderEdge => told,
        };
        Some(match group.graceful_shutdown {
            // RFC 8326 §4.2: who is to be left is told all paths again, tagged with the community.
            true => told.add_community(Community::GRACEFUL_SHUTDOWN).build(),
            false => told.build(),
        })
    }

    /// Ourselves as the next hop; the family is that of the route's own.
    fn as_next_hop(&self, attributes: &PathAttributes) -> Option<IpAddr> {
        next_hop_self(self.address, self.address_v6, attributes.next_hop().is_ipv6())
    }

    /// To another AS: ours in front, and ourselves as the next hop.
    fn told_outside(&self, group: &GroupKey, attributes: &PathAttributes) -> Option<PathAttributesBuilder> {
        let next_hop = self.as_next_hop(attributes)?;
        let told = attributes.to_builder().strip_for_external_peer().next_hop(next_hop);
        let told = match self.role {
            Role::ProviderEdge => provider_edge::hide_private_asns(told, group.source),
            Role::RouteServer | Role::VpnGateway | Role::ExpressRouteGateway => told,
        };
        Some(told.prepend(self.asn, 1))
    }

    /// To a peer of our own AS: the path stays as it is, and the next hop, too, unless we are one that forwards packets.
    fn told_inside(&self, from: Sender, attributes: &PathAttributes) -> Option<PathAttributesBuilder> {
        let told = attributes.to_builder().local_pref(Some(LOCAL_PREF));
        let told = match self.role {
            Role::RouteServer => told,
            _ => told.next_hop(self.as_next_hop(attributes)?),
        };
        Some(match from.internal {
            //= https://www.rfc-editor.org/rfc/rfc4456#section-8
            //# When an RR reflects a route, it MUST prepend the local CLUSTER_ID to the CLUSTER_LIST.
            Some(originator) => told.originator_id(originator).prepend_cluster(self.identifier),
            None => told,
        })
    }
}

/// What we originate for virtual networks, rather than what anybody told us.
pub(super) fn is_of_virtual_networks(source: RouteSource) -> bool {
    matches!(source, RouteSource::VirtualNetwork | RouteSource::PeeredVirtualNetwork)
}
