//! Packets between NVAs and instances.

use bgp::session::{ConnectionId, Direction};
use bgp::wire::{Decoder, MessageError};
use routeserver::instance::Input;

use super::World;
use crate::network::{Delivery, Link, Packet, Side};
use crate::nva::Want;
use crate::scenario;

impl World {
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let Delivery {
            connection,
            link,
            to,
            packet,
        } = delivery;
        match to {
            Side::Instance => self.deliver_to_instance(link, connection, packet),
            Side::Nva => self.deliver_to_nva(link, connection, packet),
        }
    }

    fn deliver_to_instance(&mut self, link: Link, connection: ConnectionId, packet: Packet) {
        let instance = link.instance;
        match packet {
            Packet::Opened => {
                self.processes[instance].decoders.insert(connection, Decoder::new());
                let input = match self.dialled.remove(&connection) {
                    Some(peer) => Input::Connected { peer, connection },
                    None => Input::Accepted {
                        connection,
                        speaker: scenario::speaker_of(link.nva).to_owned(),
                        local: (super::peers_of(link.nva)[instance], 179).into(),
                        remote: (self.nvas[link.nva].address, 40_000).into(),
                    },
                };
                self.instance_hears(instance, input);
                self.drain_instance(instance);
            }
            Packet::Bytes(bytes) => self.instance_reads(instance, connection, &bytes),
            Packet::Closed => {
                self.processes[instance].decoders.remove(&connection);
                self.instance_hears(
                    instance,
                    Input::Closed {
                        connection,
                        reason: "closed".to_owned(),
                    },
                );
            }
        }
    }

    /// As the connection task does: decode what came, hand it on, and carry out what that makes (a decode context, for one)
    /// before more is decoded.
    pub(super) fn instance_reads(&mut self, instance: usize, connection: ConnectionId, bytes: &[u8]) {
        if let Some(decoder) = self.processes[instance].decoders.get_mut(&connection) {
            decoder.push(bytes);
        }
        loop {
            let Some(decoder) = self.processes[instance].decoders.get_mut(&connection) else {
                return;
            };
            let input = match decoder.next_message() {
                Ok(Some(message)) => Input::Received {
                    connection,
                    messages: vec![message],
                },
                Ok(None) => return,
                Err(error) => self.malformed(instance, connection, error),
            };
            self.instance_hears(instance, input);
            self.drain_instance(instance);
        }
    }

    fn malformed(&mut self, instance: usize, connection: ConnectionId, error: MessageError) -> Input {
        self.processes[instance].decoders.remove(&connection);
        self.finding
            .get_or_insert(format!("a message of our own NVA was malformed: {error}"));
        Input::Malformed { connection, error }
    }

    fn deliver_to_nva(&mut self, link: Link, connection: ConnectionId, packet: Packet) {
        let Link { nva, instance } = link;
        if !self.nvas[nva].alive {
            return;
        }
        let now = self.now;
        let wants = match packet {
            Packet::Opened => {
                let direction = match self.nva_dialled.remove(&connection) {
                    true => Direction::Dialled,
                    false => Direction::Accepted,
                };
                self.nvas[nva].connected(now, instance, connection, direction);
                Vec::new()
            }
            Packet::Bytes(bytes) => self.nvas[nva].received(now, instance, connection, &bytes),
            Packet::Closed => {
                self.nvas[nva].closed(now, instance, connection);
                Vec::new()
            }
        };
        self.carry_out_nva(nva, wants);
        let wants = self.nvas[nva].poll_wants();
        self.carry_out_nva(nva, wants);
    }

    pub(super) fn carry_out_nva(&mut self, nva: usize, wants: Vec<Want>) {
        for want in wants {
            match want {
                Want::Dial(instance) => {
                    let link = Link { nva, instance };
                    if self.processes[instance].machine.is_some() && self.network.passes(link) {
                        let id = self.network.open(self.now, &mut self.random, link);
                        self.nva_dialled.insert(id);
                    } else {
                        self.nvas[nva].dial_failed(self.now, instance);
                    }
                }
                Want::Write(connection, bytes) => {
                    let packet = Packet::Bytes(bytes);
                    self.network
                        .send(self.now, &mut self.random, connection, Side::Instance, packet);
                }
                Want::Close(connection) => {
                    self.network.close(self.now, &mut self.random, connection, Side::Nva);
                }
            }
        }
    }
}
