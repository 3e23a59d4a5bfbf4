#![allow(clippy::unwrap_used)]
use super::*;

fn layout(text: &str) -> Layout {
    Layout::of(&Topology::parse("t.yaml", text).unwrap())
}

fn bridge_of<'a>(layout: &'a Layout, node: &str) -> &'a str {
    layout.link_of(node).unwrap().bridge.as_deref().unwrap()
}

#[test]
fn peered_networks_share_a_bridge_and_others_do_not() {
    let text = "\
vnets:
  - { name: a, address_prefixes: [10.1.0.0/16], subnets: [{ name: s, prefix: 10.1.1.0/24 }], peerings: [{ to: b }] }
  - { name: b, address_prefixes: [10.2.0.0/16], subnets: [{ name: s, prefix: 10.2.1.0/24 }], peerings: [{ to: a }] }
  - { name: c, address_prefixes: [10.1.0.0/16], subnets: [{ name: s, prefix: 10.1.1.0/24 }] }
vms:
  - { name: vm-a, subnet: a/s }
  - { name: vm-b, subnet: b/s }
";
    let layout = layout(text);
    assert_eq!(bridge_of(&layout, "vm-a"), bridge_of(&layout, "vm-b"));
    let bridges = &layout.node(FABRIC).unwrap().interfaces;
    assert_eq!(bridges.iter().map(|b| b.addresses.len()).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn an_nva_finds_the_instances_through_its_own_subnet() {
    let layout = Layout::of(&Topology::reference());
    let route = &layout.node("sdwan").unwrap().routes[0];
    assert_eq!(
        (route.prefix.to_string(), format!("{:?}", route.way)),
        ("10.1.0.0/27".into(), "Via(10.1.1.1)".into())
    );
    assert!(
        layout.node("vm1").unwrap().routes.is_empty(),
        "the agent makes all of a VM's routes"
    );
    assert!(!layout.node("vm1").unwrap().interfaces[0].prefix_routes);
}

#[test]
fn software_that_leaves_its_kernel_alone_gets_the_way_back() {
    let text = crate::topology::REFERENCE.replace("asn: 65001", "asn: 65001\n    software: exabgp");
    let layout = layout(&text);
    let has_way_back = |node| {
        layout
            .node(node)
            .unwrap()
            .routes
            .iter()
            .any(|r| r.prefix.to_string() == "10.1.0.0/16")
    };
    assert!(has_way_back("sdwan"));
    assert!(!has_way_back("firewall"));
}
