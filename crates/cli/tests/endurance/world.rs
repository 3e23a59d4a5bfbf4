//! A lab with a model beside it: what is done to one is done to the other.

use std::net::Ipv4Addr;
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use lab::topology::{Path, Topology};
use lab::{Api, Lab, LabError, UpOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::model::{Model, Nva, Vm, differences, from_api, from_kernel, net, v4};

/// Far more than anything here takes, also on a machine ten times slower.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// A batch that takes longer to settle says meanwhile what it waits for.
const SLOW: Duration = Duration::from_secs(5);
pub const NVAS: usize = 3;
const NAME: &str = "endurance";
/// vm1's subnet has the route table; vm2's address is also somebody's third-party next hop.
pub const VMS: [Vm; 2] = [
    Vm {
        name: "vm1",
        address: Ipv4Addr::new(10, 1, 10, 4),
        subnet: subnet([10, 1, 10, 0]),
        has_route_table: true,
    },
    Vm {
        name: "vm2",
        address: Ipv4Addr::new(10, 1, 20, 4),
        subnet: subnet([10, 1, 20, 0]),
        has_route_table: false,
    },
];

const TOPOLOGY: &str = "
vnets:
  - name: hub
    address_prefixes: [10.1.0.0/16]
    subnets:
      - { name: RouteServerSubnet, prefix: 10.1.0.0/27 }
      - { name: nva, prefix: 10.1.1.0/24 }
      - { name: web, prefix: 10.1.10.0/24, route_table: rt }
      - { name: data, prefix: 10.1.20.0/24 }
route_tables:
  - { name: rt }
route_servers:
  - { name: rs, vnet: hub }
nvas:
  - { name: nva0, subnet: hub/nva, address: 10.1.1.4, asn: 65001 }
  - { name: nva1, subnet: hub/nva, address: 10.1.1.5, asn: 65002 }
  - { name: nva2, subnet: hub/nva, address: 10.1.1.6, asn: 65003 }
vms:
  - { name: vm1, subnet: hub/web, address: 10.1.10.4 }
  - { name: vm2, subnet: hub/data, address: 10.1.20.4 }
";

const fn subnet(octets: [u8; 4]) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), 24)
}

pub struct World {
    pub lab: Lab,
    pub api: Api,
    pub model: Model,
    labs: TempDir,
}

impl World {
    pub fn up(rootless: bool) -> World {
        World::up_as(rootless, TOPOLOGY)
    }

    /// With the same VMs and as many NVAs, but arranged otherwise.
    pub fn up_as(rootless: bool, topology: &str) -> World {
        let topology = Topology::parse("endurance", topology).unwrap();
        let labs = tempfile::Builder::new().prefix("rw-endurance").tempdir().unwrap();
        let options = UpOptions {
            name: NAME.to_owned(),
            labs: labs.path().to_owned(),
            executable: env!("CARGO_BIN_EXE_routewright").into(),
            rootless,
            fabric_only: false,
            interrupted: None,
        };
        let lab = Lab::up(&topology, &options, &mut |_| {}).unwrap_or_else(|e| {
            let _ = Lab::down(labs.path(), NAME);
            panic!("{e}")
        });
        let nvas = topology.nvas.iter().map(|nva| Nva {
            name: nva.name.clone(),
            address: nva.address,
            alive: true,
            admin_down: false,
            announced: Default::default(),
        });
        let model = Model {
            nvas: nvas.collect(),
            address_space: vec![net("10.1.0.0/16")],
            branch_to_branch: false,
            disable_bgp_propagation: false,
            user_routes: Default::default(),
        };
        let api = lab.api().unwrap();
        World { lab, api, model, labs }
    }

    /// Where labs are, for a second handle.
    pub fn open_again(&self) -> Lab {
        let labs: &FilePath = self.labs.path();
        Lab::open(labs, NAME).unwrap()
    }

    pub fn announce(&mut self, nva: usize, paths: &[Path]) {
        let model = &mut self.model.nvas[nva];
        model
            .announced
            .extend(paths.iter().map(|path| (v4(path.prefix), path.clone())));
        self.lab.announce_paths(&model.name, paths).unwrap();
    }

    pub fn withdraw(&mut self, nva: usize, prefixes: &[Ipv4Net]) {
        let model = &mut self.model.nvas[nva];
        for prefix in prefixes {
            model.announced.remove(prefix);
        }
        let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| IpNet::V4(*prefix)).collect();
        self.lab.withdraw(&model.name, &prefixes).unwrap();
    }

    pub fn set_alive(&mut self, nva: usize, alive: bool) {
        let model = &mut self.model.nvas[nva];
        if std::mem::replace(&mut model.alive, alive) == alive {
            return;
        }
        let done = match alive {
            true => self.lab.start(&model.name),
            false => self.lab.kill(&model.name),
        };
        done.unwrap();
    }

    pub fn toggle_admin_down(&mut self, nva: usize) {
        let model = &mut self.model.nvas[nva];
        model.admin_down ^= true;
        let path = format!("virtualHubs/rs/bgpConnections/{}", model.name);
        let settings = json!({ "adminDown": model.admin_down });
        self.put_settings(&path, &settings);
    }

    pub fn put_settings(&self, resource: &str, settings: &Value) {
        let path = format!("/routewright/v1{}/settings", lab::network_id(resource));
        self.api.put(&path, settings).unwrap();
    }

    /// Puts the virtual network as the model has it.
    pub fn put_network(&self) {
        self.put("virtualNetworks/hub", |properties| {
            properties["addressSpace"]["addressPrefixes"] = json!(self.model.address_space);
        });
    }

    /// Puts the route server as the model has it.
    pub fn put_hub(&self) {
        self.try_put_hub().unwrap_or_else(|e| panic!("{e}"));
    }

    /// The same, while it may be refused.
    pub fn try_put_hub(&self) -> Result<(), LabError> {
        self.try_put(&self.api, "virtualHubs/rs", |properties| {
            properties["allowBranchToBranchTraffic"] = json!(self.model.branch_to_branch);
        })
    }

    /// Puts the route table as the model has it.
    pub fn put_route_table(&self) {
        self.put_route_table_at(&self.api).unwrap_or_else(|e| panic!("{e}"));
    }

    /// The same through another manager, while it may be refused.
    pub fn put_route_table_at(&self, api: &Api) -> Result<(), LabError> {
        let routes = self
            .model
            .user_routes
            .iter()
            .enumerate()
            .map(|(number, (prefix, appliance))| {
                let mut properties = json!({ "addressPrefix": prefix, "nextHopType": "None" });
                if let Some(address) = appliance {
                    properties["nextHopType"] = json!("VirtualAppliance");
                    properties["nextHopIpAddress"] = json!(address);
                }
                json!({ "name": format!("route{number}"), "properties": properties })
            });
        let routes: Vec<Value> = routes.collect();
        self.try_put(api, "routeTables/rt", |properties| {
            properties["disableBgpRoutePropagation"] = json!(self.model.disable_bgp_propagation);
            properties["routes"] = json!(routes);
        })
    }

    fn put(&self, resource: &str, change: impl FnOnce(&mut Value)) {
        self.try_put(&self.api, resource, change)
            .unwrap_or_else(|e| panic!("{e}"));
    }

    fn try_put(&self, api: &Api, resource: &str, change: impl FnOnce(&mut Value)) -> Result<(), LabError> {
        let id = lab::network_id(resource);
        let all = lab::resources(self.lab.topology());
        let mut wanted = all.into_iter().find(|resource| resource.id == id).unwrap();
        change(&mut wanted.body["properties"]);
        api.provision(&wanted)
    }

    /// Waits until every kernel is as the model says, and the API says the same.
    pub fn settle(&self, what: &str) {
        self.settle_unless(what, |world, vm| {
            let rows = world.api.effective_routes(vm.name)?;
            Ok(differences(
                &format!("API, {}", vm.name),
                &from_api(&rows, vm, &self.model.address_space),
                &world.model.table(vm),
            ))
        });
    }

    /// The same while nobody can be asked.
    pub fn settle_without_api(&self, what: &str) {
        self.settle_unless(what, |_, _| Ok(Vec::new()));
    }

    fn settle_unless(&self, what: &str, more: impl Fn(&World, &Vm) -> Result<Vec<String>, LabError>) {
        let (begin, mut told) = (Instant::now(), false);
        let settled = self.lab.wait_until(what, DEADLINE, |lab| {
            for vm in &VMS {
                let kernel = from_kernel(&lab.kernel_routes(vm.name)?);
                let mut still = differences(&format!("kernel of {}", vm.name), &kernel, &self.model.table(vm));
                if still.is_empty() {
                    still = more(self, vm)?;
                }
                if !still.is_empty() {
                    if begin.elapsed() > SLOW && !std::mem::replace(&mut told, true) {
                        eprintln!("slow: {what}\n{}\n{}", still.join("\n"), self.why());
                    }
                    return Ok(still);
                }
            }
            Ok(Vec::new())
        });
        if let Err(error) = settled {
            panic!("{error}\n{}\n{:#?}", self.why(), self.model.nvas);
        }
    }

    /// What instances and API say, for whoever has to find out what it waits for.
    pub fn why(&self) -> String {
        let peers = self.api.peers().unwrap_or_default();
        let peers = peers.iter().map(|p| {
            format!(
                "{} with instance {}: {} {:?}",
                p.name, p.instance, p.state, p.last_error
            )
        });
        let api = VMS.iter().flat_map(|vm| {
            let rows = self.api.effective_routes(vm.name).unwrap_or_default();
            differences(
                &format!("API, {}", vm.name),
                &from_api(&rows, vm, &self.model.address_space),
                &self.model.table(vm),
            )
        });
        peers.chain(api).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("RW_KEEP_LOGS").is_some() {
            let kept = std::env::temp_dir().join(format!("endurance-logs-{}", std::process::id()));
            let _ = std::process::Command::new("cp")
                .arg("-r")
                .arg(self.labs.path())
                .arg(&kept)
                .status();
            eprintln!("logs are in {}", kept.display());
        }
        let _ = Lab::down(self.labs.path(), NAME);
    }
}
