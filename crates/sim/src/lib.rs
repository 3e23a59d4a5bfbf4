//! A seeded world: peers, links, agents, kernels, faults; and checkers.
