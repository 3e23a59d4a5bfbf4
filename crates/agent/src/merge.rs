//! Two instances, one truth: what each instance says about one NIC becomes one wanted table.
//!
//! Each instance has a *voice* with up to two words: what it says in this life, and what it said in its former one while it
//! has not converged yet. The rules:
//!
//! - Per prefix, groups of next hops compete by rank; the best counts, groups of equal rank are joined.
//! - Ways without a rank are the same from both instances, except while they follow different versions of the intent. A BGP
//!   route at only one instance lasts, though, so ways are ordered: group, on-link, subnet gateway, blackhole.
//! - An instance that is silent doesn't count any more as soon as another one that has converged speaks *after* that. So when
//!   both die at once neither takes the other's routes along: everything stays.
//! - An instance that converges only adds: its former word stays until then.
//! - An instance that stood still begins another life on the same stream. Of what it said before, only next hops that another one names
//!   still count, if one speaks.
//! - A word that cannot be taken back (the stream is over, or the former one) does not outlast its next hops ([`unheard`]).
//!
//! Routes are gathered under a [`GroupKey`]: the groups that the words name for them. So a group that changes at one instance is one
//! change here, whatever the number of its routes, and the two instances' groups need not have the same borders.
//!
//! A word may have two layers ([`crate::layers`]). Each instance's are put together first: ranks are compared between instances only.

mod unheard;
mod wanted;

use std::borrow::Cow;
use std::net::IpAddr;

use api::best_next_hops;
use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::layers::{GroupRef, Layer, Layers, ReadLayers};
use crate::table::{Group, GroupId, Rank, SharedTable, TableRoute, Way};
use unheard::{Lost, Unheard};
use wanted::Wanted;

/// IN_0 and IN_1.
pub const MAX_VOICES: usize = 2;

/// This life's word and the former one's, of each voice.
const SLOTS: usize = MAX_VOICES * 2;

/// More next hops than this in one group are a mistake somewhere; the kernel would take them, packets would not be better off.
pub const MAX_GROUP_MEMBERS: usize = 128;

/// The groups that the words name for a route: this life's and the former one's of each voice.
pub type GroupKey = [Option<GroupRef>; SLOTS];

/// What a NIC is told about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicFacts {
    /// The NIC's addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Prefixes of its subnet.
    pub subnet_prefixes: Vec<IpNet>,
    /// The subnet's first address, per family.
    pub gateways: Vec<IpAddr>,
}

/// What happened at one instance.
#[derive(Clone, Debug)]
pub enum Said {
    /// A stream began; another epoch is another life. On a stream that did not end before, the instance stood still.
    Welcome {
        /// The instance's life.
        epoch: u64,
    },
    /// The NIC's facts, and its table once that is known, with the base below it.
    Table(NicFacts, Layers),
    /// The instance doesn't know the NIC.
    Unknown,
    /// A shared table has changed here.
    Changed(Layer, std::sync::Arc<Changes>),
    /// All is said that this instance has to say after a start (or not yet).
    Converged(bool),
    /// Something came that says nothing else. Needed only while another instance is silent.
    Alive,
    /// Its stream is over; it may be back before anybody calls it silent.
    Ended,
    /// Nothing came for longer than its silence limit. What follows is a stream from its beginning.
    Silent,
}

/// Where a table has changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Groups with other members or another rank.
    pub groups: Vec<GroupId>,
    /// Prefixes with another way, or none.
    pub prefixes: Vec<IpNet>,
    /// It hides something else of its base now.
    pub hides: bool,
}

/// How packets to a prefix should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WantedWay {
    /// Through the members of a group.
    Group(GroupKey),
    /// Directly on the link.
    OnLink,
    /// Through this address of the subnet.
    Gateway(IpAddr),
    /// Dropped.
    Blackhole,
}

/// What has changed since it was last taken.
#[derive(Clone, Debug, Default)]
pub struct Dirty {
    /// Everything may have.
    pub all: bool,
    /// Groups whose members have changed.
    pub groups: FxHashSet<GroupKey>,
    /// Prefixes whose way has changed.
    pub prefixes: FxHashSet<IpNet>,
    /// Groups that have no route any more, unless they have come to have some again.
    pub gone: FxHashSet<GroupKey>,
    /// Those of `groups` that have lost a next hop.
    pub reduced_groups: FxHashSet<GroupKey>,
    /// Those of `prefixes` that have lost a next hop, or their way.
    pub reduced: FxHashSet<IpNet>,
}

impl Dirty {
    /// Nothing has changed.
    pub fn is_empty(&self) -> bool {
        !self.all && self.groups.is_empty() && self.prefixes.is_empty()
    }
}

#[derive(Clone, Debug, Default)]
struct Voice {
    epoch: Option<u64>,
    /// Speaking, or not silent for long enough.
    silent: bool,
    converged: bool,
    /// Said that it doesn't know the NIC, in this life, without having known it before.
    unknown: bool,
    /// Was silent while another was not: its words don't count until they are said again.
    dropped: bool,
    facts: Option<NicFacts>,
    now: Option<Layers>,
    former: Option<Layers>,
    /// Its stream is over.
    away: bool,
    /// While it has a word that it cannot take back.
    unheard: Option<Unheard>,
}

impl Voice {
    /// Speaks with all it has to say.
    fn is_sure(&self) -> bool {
        !self.silent && !self.away && self.converged && self.now.is_some()
    }

    /// Knew the NIC in a former life and has now said everything without it: no routes, as if it had known it in this life, too.
    fn knows_it_no_more(&self) -> bool {
        !self.silent && !self.away && self.converged && self.unknown && self.former.is_some()
    }

    /// Has nothing more to say that could matter.
    fn is_settled(&self) -> bool {
        self.silent || (self.converged && (self.now.is_some() || self.unknown))
    }

    /// Whether this is another life.
    fn lives_again(&self, epoch: u64) -> bool {
        self.epoch.is_some_and(|old| old != epoch)
    }

    /// It is heard: what it says now it can take back, and if it has no former word, all.
    fn is_heard(&mut self) {
        self.away = false;
        if self.former.is_none() {
            self.unheard = None;
        }
    }

    /// Next hops that it names.
    fn named(&self) -> FxHashSet<IpAddr> {
        let words = self.now.as_ref().map(Layers::read);
        let words = words.as_ref();
        words.into_iter().flat_map(ReadLayers::next_hops).collect()
    }
}

/// What the instances say about one NIC, merged.
#[derive(Clone, Debug)]
pub struct Merge {
    voices: Vec<Voice>,
    system_routes: bool,
    facts: NicFacts,
    wanted: Wanted,
    dirty: Dirty,
    stranded: u64,
}

impl Merge {
    /// Nothing said yet by so many instances. `system_routes`: want routes that only the lab wants, too.
    pub fn new(voices: usize, system_routes: bool) -> Merge {
        Merge {
            voices: vec![Voice::default(); voices.min(MAX_VOICES)],
            system_routes,
            facts: NicFacts::default(),
            wanted: Wanted::default(),
            dirty: Dirty::default(),
            stranded: 0,
        }
    }

    /// Routes that went when their next hops had all been lost and nothing took over.
    pub fn stranded(&self) -> u64 {
        self.stranded
    }

    /// Takes in what happened at instance `voice`.
    pub fn handle(&mut self, voice: usize, said: Said) {
        if voice >= self.voices.len() {
            return;
        }
        let mut rebuild = false;
        // Of all that is said often only groups can name other next hops than before.
        let names_others = match &said {
            Said::Alive => false,
            Said::Changed(_, changes) => !changes.groups.is_empty(),
            _ => true,
        };
        match said {
            Said::Changed(layer, changes) => rebuild = self.changed(voice, layer, &changes),
            said => rebuild |= self.take(voice, said),
        }
        rebuild |= self.settle_voices(voice);
        let lost = if names_others { self.find_lost() } else { Lost::AsBefore };
        if rebuild || lost == Lost::Others || (lost == Lost::More && self.is_lost_and_said_again()) {
            self.rebuild();
        } else if lost == Lost::More {
            self.lose();
        }
    }

    /// What every prefix should have.
    pub fn routes(&self) -> &FxHashMap<IpNet, WantedWay> {
        &self.wanted.routes
    }

    /// Members of each group that is in use, sorted.
    pub fn groups(&self) -> &FxHashMap<GroupKey, Vec<IpAddr>> {
        &self.wanted.groups
    }

    /// Next hops that may take over from a group's members, by what is said now; sorted. Groups that have the same members and the same of
    /// these change together when next hops die.
    pub fn fallback(&self, key: &GroupKey) -> &[IpAddr] {
        self.wanted.fallbacks.get(key).map_or(&[], Vec::as_slice)
    }

    /// What the NIC is told about itself.
    pub fn facts(&self) -> &NicFacts {
        &self.facts
    }

    /// True if some instance has told the NIC a table.
    pub fn is_known(&self) -> bool {
        self.voices
            .iter()
            .any(|voice| voice.now.is_some() || voice.former.is_some())
    }

    /// True once what is missing here is really not wanted: at least one instance has said everything, and none can still
    /// be expected to add what an agent that was started just now has never heard.
    pub fn is_settled(&self) -> bool {
        self.is_sure() && self.voices.iter().all(Voice::is_settled)
    }

    /// True once at least one instance has said everything. Before that, no word says what is not wanted.
    pub fn is_sure(&self) -> bool {
        self.voices.iter().any(Voice::is_sure)
    }

    /// What has changed since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Changes a voice; true if that may have changed what is wanted.
    fn take(&mut self, index: usize, said: Said) -> bool {
        if matches!(said, Said::Ended | Said::Welcome { .. }) && self.voices[index].unheard.is_none() {
            self.voices[index].unheard = Some(Unheard::since(self.named_beside(index)));
        }
        let voice = &mut self.voices[index];
        match said {
            Said::Ended => {
                voice.away = true;
                false
            }
            Said::Welcome { epoch } => {
                voice.silent = false;
                let reborn = voice.lives_again(epoch);
                voice.epoch = Some(epoch);
                if reborn {
                    let stood_still = !voice.away;
                    begin_life(voice);
                    // What happened meanwhile it has missed, and we do not know since when.
                    if let (true, Some(unheard), Some(former)) = (stood_still, &mut voice.unheard, &voice.former) {
                        unheard.judges_also(former.read().next_hops());
                    }
                }
                reborn
            }
            Said::Table(facts, table) => {
                voice.unknown = false;
                voice.dropped = false;
                voice.facts = Some(facts);
                voice.now = Some(table);
                voice.is_heard();
                true
            }
            Said::Unknown => {
                // An instance that knew the NIC in this life and doesn't any more says something: no routes.
                voice.unknown = voice.now.is_none();
                let known = voice.now.is_some();
                if known {
                    voice.now = Some(Layers::default());
                }
                voice.is_heard();
                known
            }
            Said::Converged(converged) => {
                voice.converged = converged;
                false
            }
            Said::Silent => {
                voice.silent = true;
                false
            }
            Said::Alive | Said::Changed(..) => false,
        }
    }

    /// Lets go of words that don't count any more, now that `speaker` has spoken (or was found silent); true if there were any.
    fn settle_voices(&mut self, speaker: usize) -> bool {
        let speaker = &mut self.voices[speaker];
        if speaker.knows_it_no_more() {
            speaker.unknown = false;
            speaker.now = Some(Layers::default());
        }
        if !speaker.is_sure() {
            return false;
        }
        let mut changed = speaker.former.take().is_some();
        speaker.is_heard();
        for voice in self.voices.iter_mut().filter(|voice| voice.silent && !voice.dropped) {
            voice.dropped = true;
            changed |= voice.now.is_some() || voice.former.is_some();
        }
        changed
    }

    /// Next hops that the others name who have said everything.
    fn named_beside(&self, index: usize) -> FxHashSet<IpAddr> {
        let others = self.voices.iter().enumerate().filter(|(other, _)| *other != index);
        others
            .filter(|(_, voice)| voice.is_sure())
            .flat_map(|(_, voice)| voice.named())
            .collect()
    }

    /// Finds next hops that words which cannot be taken back name and that are dead.
    fn find_lost(&mut self) -> Lost {
        let mut lost = Lost::AsBefore;
        for index in 0..self.voices.len() {
            // Where nobody else speaks for sure, nobody can have said that a next hop is dead.
            let mut others = self.voices.iter().enumerate().filter(|(other, _)| *other != index);
            if self.voices[index].unheard.is_some() && others.any(|(_, voice)| voice.is_sure()) {
                let named = self.named_beside(index);
                if let Some(unheard) = &mut self.voices[index].unheard {
                    lost = lost.max(unheard.others_name(&named));
                }
            }
        }
        lost
    }

    /// Whether an instance that converges names a next hop that does not count in its former word any more: which of the two words a route
    /// goes under depends on that.
    fn is_lost_and_said_again(&self) -> bool {
        self.voices.iter().filter(|voice| voice.former.is_some()).any(|voice| {
            let unheard = voice.unheard.as_ref().filter(|unheard| !unheard.is_whole());
            unheard.is_some_and(|unheard| voice.named().iter().any(|hop| unheard.has_lost(hop)))
        })
    }

    /// More next hops are dead than before: groups lose them, and the routes of those that have none left are worked out again. Whatever the
    /// number of routes, the others are not looked at.
    fn lose(&mut self) {
        let words = Words::read(&self.voices, self.system_routes);
        let mut emptied: FxHashSet<GroupKey> = FxHashSet::default();
        for (key, members) in &mut self.wanted.groups {
            let wanted = words.members(key);
            if *members == wanted {
                continue;
            }
            self.wanted.fallbacks.insert(*key, words.fallback(key, &wanted));
            if wanted.is_empty() {
                emptied.insert(*key);
            }
            if !contains_all(&wanted, members) {
                self.dirty.reduced_groups.insert(*key);
            }
            *members = wanted;
            self.dirty.groups.insert(*key);
        }
        if emptied.is_empty() {
            return;
        }
        let is_of = |way: &WantedWay| matches!(way, WantedWay::Group(key) if emptied.contains(key));
        let routes = self.wanted.routes.iter();
        let stranded: Vec<IpNet> = routes
            .filter(|(_, way)| is_of(way))
            .map(|(prefix, _)| *prefix)
            .collect();
        for prefix in stranded {
            let way = words.way(prefix, &self.facts);
            if way.as_ref() == self.wanted.routes.get(&prefix) {
                continue;
            }
            self.dirty.reduced.insert(prefix);
            if self.wanted.set(prefix, way, &words, &mut self.dirty) {
                self.stranded += 1;
            }
        }
    }

    /// Works everything out again.
    fn rebuild(&mut self) {
        let said_facts = |voice: &&Voice| voice.facts.is_some() && !voice.dropped;
        if let Some(voice) = self.voices.iter().find(said_facts) {
            self.facts = voice.facts.clone().unwrap_or_default();
        }
        let words = Words::read(&self.voices, self.system_routes);
        let mut wanted = Wanted::default();
        for (index, table) in words.tables() {
            for prefix in table.prefixes() {
                // Each prefix once: where the first word that has it comes.
                if words
                    .tables()
                    .take_while(|(other, _)| *other < index)
                    .any(|(_, other)| other.route(prefix).is_some())
                {
                    continue;
                }
                if let Some(way) = words.way(*prefix, &self.facts) {
                    wanted.add(*prefix, way, &words);
                }
            }
        }
        drop(words);
        self.wanted = wanted;
        self.dirty.all = true;
    }

    /// Takes in where a shared table has changed; true if everything is to be worked out again.
    fn changed(&mut self, index: usize, layer: Layer, changes: &Changes) -> bool {
        // Which of the two words a route goes under depends on the members while both are there.
        let may_change_words = self.voices[index].former.is_some() && !changes.groups.is_empty();
        // Any of the base's prefixes may count now, or not any more.
        if may_change_words || changes.hides {
            return true;
        }
        let words = Words::read(&self.voices, self.system_routes);
        let slot = index * 2;
        let groups: FxHashSet<GroupId> = changes.groups.iter().copied().collect();
        for (key, members) in &mut self.wanted.groups {
            if key[slot].is_some_and(|group| group.layer == layer && groups.contains(&group.id)) {
                let wanted = words.members(key);
                self.wanted.fallbacks.insert(*key, words.fallback(key, &wanted));
                if *members != wanted {
                    if !contains_all(&wanted, members) {
                        self.dirty.reduced_groups.insert(*key);
                    }
                    *members = wanted;
                    self.dirty.groups.insert(*key);
                }
            }
        }
        for prefix in &changes.prefixes {
            let way = words.way(*prefix, &self.facts);
            if self.wanted.set(*prefix, way, &words, &mut self.dirty) {
                self.stranded += 1;
            }
        }
        false
    }
}

fn contains_all(members: &[IpAddr], others: &[IpAddr]) -> bool {
    others.iter().all(|other| members.contains(other))
}

/// A life ends: its word becomes the former one.
fn begin_life(voice: &mut Voice) {
    let now = voice.now.take();
    let dropped = std::mem::take(&mut voice.dropped);
    if dropped {
        voice.former = None;
    } else if voice.converged || voice.former.is_none() {
        voice.former = now;
    } else if let (Some(former), Some(now)) = (&voice.former, now) {
        // It ended before it had converged: what it added stays beside what the life before had said.
        let mut joined = former.read().flattened();
        joined.absorb(&now.read().flattened());
        voice.former = Some(SharedTable::new(joined).into());
    }
    voice.converged = false;
    voice.unknown = false;
}

/// All words, locked for reading.
struct Words<'a> {
    slots: [Option<ReadLayers<'a>>; SLOTS],
    counts: [bool; SLOTS],
    /// Those that cannot be taken back, if they name what is dead.
    unheard: [Option<&'a Unheard>; SLOTS],
    system_routes: bool,
}

impl<'a> Words<'a> {
    fn read(voices: &'a [Voice], system_routes: bool) -> Words<'a> {
        let mut words = Words {
            slots: [const { None }; SLOTS],
            counts: [false; SLOTS],
            unheard: [None; SLOTS],
            system_routes,
        };
        for (index, voice) in voices.iter().enumerate() {
            words.slots[index * 2] = voice.now.as_ref().map(Layers::read);
            words.slots[index * 2 + 1] = voice.former.as_ref().map(Layers::read);
            words.counts[index * 2] = !voice.dropped;
            words.counts[index * 2 + 1] = !voice.dropped;
            let unheard = voice.unheard.as_ref().filter(|unheard| !unheard.is_whole());
            words.unheard[index * 2] = unheard.filter(|_| voice.away);
            // Who stood still goes on to say what is left. What of that it had said before is not to go for a moment.
            words.unheard[index * 2 + 1] = unheard.filter(|_| voice.away || voice.now.is_some());
        }
        words
    }

    fn tables(&self) -> impl Iterator<Item = (usize, &ReadLayers<'a>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| slot.as_ref().map(|table| (index, table)))
    }

    /// The best way for a prefix over all words.
    fn way(&self, prefix: IpNet, facts: &NicFacts) -> Option<WantedWay> {
        let mut key: GroupKey = [None; SLOTS];
        let mut grouped = false;
        let mut other: Option<(u8, WantedWay)> = None;
        for (index, table) in self.tables() {
            let Some((layer, route)) = table.route(&prefix) else {
                continue;
            };
            if let Way::Group(id) = route.way {
                if self.wants(route) {
                    let group = GroupRef { layer, id };
                    key[index] = Some(group);
                    grouped |= self.counts[index] && self.leads_on(index, group);
                }
            } else if self.wants(route) && self.counts[index] {
                let Some(candidate) = plain_way(route.way, prefix, facts) else {
                    continue;
                };
                if other.is_none_or(|(order, _)| candidate.0 < order) {
                    other = Some(candidate);
                }
            }
        }
        if grouped {
            self.drop_covered(&mut key);
            return Some(WantedWay::Group(key));
        }
        other.map(|(_, way)| way)
    }

    /// Whether a group of a word has a next hop that is not known to be dead.
    fn leads_on(&self, slot: usize, group: GroupRef) -> bool {
        let Some(unheard) = self.unheard[slot] else {
            return true;
        };
        let group = self.slots[slot].as_ref().and_then(|table| table.group(group));
        group.is_some_and(|group| alive(&group.members, Some(unheard)).is_some())
    }

    fn wants(&self, route: &TableRoute) -> bool {
        self.system_routes || !route.system
    }

    /// While a life converges, most of what it says is what the former one said. Such a route stays under its former key, so
    /// that a restart of an instance moves no route.
    fn drop_covered(&self, key: &mut GroupKey) {
        for voice in 0..MAX_VOICES {
            let (now, former) = (self.group(key, voice * 2), self.group(key, voice * 2 + 1));
            if let (Some((now, rank)), Some((former, former_rank))) = (now, former)
                && let Some(former) = alive(former, self.unheard[voice * 2 + 1])
                && (rank > former_rank || (rank == former_rank && now.iter().all(|member| former.contains(member))))
            {
                key[voice * 2] = None;
            }
        }
    }

    fn group(&self, key: &GroupKey, slot: usize) -> Option<(&[IpAddr], Rank)> {
        let group = self.whole_group(key, slot)?;
        Some((&group.members, group.rank))
    }

    fn whole_group(&self, key: &GroupKey, slot: usize) -> Option<&Group> {
        self.slots[slot].as_ref()?.group(key[slot]?)
    }

    /// What the words that count name besides these members: worse ways, and what takes over when the members die.
    fn fallback(&self, key: &GroupKey, members: &[IpAddr]) -> Vec<IpAddr> {
        let counted = (0..SLOTS).filter(|slot| self.counts[*slot]);
        let groups = counted.filter_map(|slot| self.whole_group(key, slot));
        let named = groups.flat_map(|group| group.members.iter().chain(&group.fallback));
        let mut fallback: Vec<IpAddr> = named.filter(|hop| !members.contains(hop)).copied().collect();
        fallback.sort_unstable();
        fallback.dedup();
        fallback
    }

    /// Next hops of the best rank among the words that count, sorted, each once.
    fn members(&self, key: &GroupKey) -> Vec<IpAddr> {
        let counted: Vec<(Cow<'_, [IpAddr]>, Rank)> = (0..SLOTS)
            .filter(|slot| self.counts[*slot])
            .filter_map(|slot| {
                let (members, rank) = self.group(key, slot)?;
                Some((alive(members, self.unheard[slot])?, rank))
            })
            .collect();
        let counted = counted.iter().map(|(members, rank)| (members.as_ref(), *rank));
        let mut members = best_next_hops(counted);
        members.truncate(MAX_GROUP_MEMBERS);
        members
    }
}

/// Those of a word's next hops that are not dead; `None` if all are.
fn alive<'a>(members: &'a [IpAddr], unheard: Option<&Unheard>) -> Option<Cow<'a, [IpAddr]>> {
    let Some(unheard) = unheard else {
        return Some(Cow::Borrowed(members));
    };
    let alive: Vec<IpAddr> = members.iter().filter(|hop| !unheard.has_lost(hop)).copied().collect();
    (!alive.is_empty()).then_some(Cow::Owned(alive))
}

/// A way without a rank, with its place in the order.
fn plain_way(way: Way, prefix: IpNet, facts: &NicFacts) -> Option<(u8, WantedWay)> {
    match way {
        Way::OnLink => Some((0, WantedWay::OnLink)),
        Way::SubnetGateway => {
            let same_family = |gateway: &&IpAddr| gateway.is_ipv4() == matches!(prefix, IpNet::V4(_));
            facts
                .gateways
                .iter()
                .find(same_family)
                .map(|gateway| (1, WantedWay::Gateway(*gateway)))
        }
        Way::Blackhole => Some((2, WantedWay::Blackhole)),
        Way::Group(_) => None,
    }
}
