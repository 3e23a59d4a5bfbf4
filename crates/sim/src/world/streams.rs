//! Streams between instances and agents.

use std::time::Duration;

use prost::Message;
use routeserver::delivery::{AgentId, ToAgent};
use routeserver::instance::Input;

use super::{Happening, World};

/// The longest a message to an agent takes.
const LATENCY_MAX_US: usize = 5_000;

impl World {
    /// Which instances the VM's agent has a stream to.
    pub(super) fn open(&self, vm: usize) -> [bool; 2] {
        [0, 1].map(|instance| self.streams.contains_key(&(vm, instance)))
    }

    /// An agent without a stream keeps trying.
    pub(super) fn open_streams(&mut self, vm: usize) {
        for instance in 0..2 {
            let wanted = self.vms[vm].is_alive() && self.processes[instance].machine.is_some();
            if wanted && !self.streams.contains_key(&(vm, instance)) && self.opening.insert((vm, instance)) {
                let delay = Duration::from_millis(1 + self.random.below(2_000) as u64);
                self.after(delay, Happening::StreamOpens { vm, instance });
            }
        }
    }

    pub(super) fn stream_opens(&mut self, vm: usize, instance: usize) {
        self.opening.remove(&(vm, instance));
        if !self.vms[vm].is_alive() || self.processes[instance].machine.is_none() {
            return;
        }
        self.sequence += 1;
        let agent = AgentId(self.sequence);
        self.streams.insert((vm, instance), (agent, self.now));
        let epoch = self.processes[instance].epoch;
        self.vms[vm].welcome(self.now, instance, epoch);
        let nic = self.vms[vm].nic.clone();
        self.instance_hears(
            instance,
            Input::AgentFollows {
                agent,
                name: format!("vm{vm}"),
                nics: vec![nic],
                layers: true,
            },
        );
    }

    pub(super) fn close_stream(&mut self, vm: usize, instance: usize) {
        if let Some((agent, _)) = self.streams.remove(&(vm, instance)) {
            self.vms[vm].stream_ends(instance);
            self.instance_hears(instance, Input::AgentGone { agent });
        }
    }

    /// All streams of an instance that has died.
    pub(super) fn streams_end(&mut self, instance: usize) {
        let vms = &mut self.vms;
        self.streams.retain(|(vm, of), _| {
            if *of == instance {
                vms[*vm].stream_ends(instance);
            }
            *of != instance
        });
    }

    pub(super) fn tell_agents(&mut self, instance: usize, agents: &[AgentId], message: &ToAgent) {
        // Through the wire format, as between real processes.
        for frame in api::convert::encode(message).iter() {
            let piece = frame.slice(api::convert::MESSAGE_PREFIX..);
            match api::agent::ToAgent::decode(piece) {
                Ok(piece) => self.tell_piece(instance, agents, &piece),
                Err(_) => {
                    self.finding
                        .get_or_insert("a message to agents does not decode".to_owned());
                    return;
                }
            }
        }
    }

    fn tell_piece(&mut self, instance: usize, agents: &[AgentId], message: &api::agent::ToAgent) {
        for agent in agents {
            let latency = Duration::from_micros(10 + self.random.below(LATENCY_MAX_US) as u64);
            let found = self
                .streams
                .iter_mut()
                .find(|((_, i), (open, _))| *i == instance && open == agent);
            let Some((&(vm, _), (stream, last))) = found else {
                continue;
            };
            *last = (self.now + latency).max(*last);
            let (stream, at) = (*stream, *last);
            let happening = Happening::AgentHears {
                vm,
                instance,
                stream,
                message: Box::new(message.clone()),
            };
            self.after(at.saturating_duration_since(self.now), happening);
        }
    }
}
