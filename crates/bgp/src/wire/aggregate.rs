//! What several routes have in common, told as one (RFC 4271 §9.2.2.2) without an AS_SET, which nobody takes any more (RFC 9774).

use std::collections::BTreeSet;

use super::attribute_type::{self as code, TRANSITIVE};
use super::attributes::{AsPathSegment, PathAttributes};
use super::types::Asn;

impl PathAttributes {
    /// The aggregate of routes: the first one's next hop, the beginning that all AS paths share, the communities of any, no MED.
    /// `None` without a route.
    pub fn aggregate<'a>(mut parts: impl Iterator<Item = &'a PathAttributes>) -> Option<PathAttributes> {
        let first = parts.next()?;
        let mut head = leading_sequence(first);
        let mut whole_paths = head.len() == first.as_numbers().count();
        let mut origin = first.origin();
        let (mut communities, mut seen) = (first.communities().collect::<Vec<_>>(), BTreeSet::new());
        seen.extend(communities.iter().copied());
        let mut large: Vec<_> = first.large_communities().collect();
        let mut seen_large: BTreeSet<_> = large.iter().copied().collect();
        for part in parts {
            let path = leading_sequence(part);
            let shared = head.iter().zip(&path).take_while(|(one, other)| one == other).count();
            whole_paths &= shared == head.len() && shared == part.as_numbers().count();
            head.truncate(shared);
            //= https://www.rfc-editor.org/rfc/rfc4271#section-9.2.2.2
            //# If at least one route among routes that are aggregated has ORIGIN with the value INCOMPLETE, then the
            //# aggregated route MUST have the ORIGIN attribute with the value INCOMPLETE.
            origin = origin.max(part.origin());
            communities.extend(part.communities().filter(|each| seen.insert(*each)));
            large.extend(part.large_communities().filter(|each| seen_large.insert(*each)));
        }
        let aggregate = first
            .to_builder()
            .origin(origin)
            .as_sequence(&head)
            .med(None)
            .remove(code::AGGREGATOR)
            .remove(code::EXTENDED_COMMUNITIES)
            .communities(&communities)
            .large_communities(&large);
        //= https://www.rfc-editor.org/rfc/rfc4271#section-5.1.6
        //# When a BGP speaker aggregates several routes for the purpose of advertisement to a particular peer, the
        //# AS_PATH of the aggregated route normally includes an AS_SET formed from the set of ASes […] If an aggregate
        //# excludes at least some of the AS numbers […] the aggregated route […] SHOULD include the ATOMIC_AGGREGATE attribute.
        Some(match whole_paths {
            true => aggregate.build(),
            false => aggregate.other(TRANSITIVE, code::ATOMIC_AGGREGATE, &[]).build(),
        })
    }
}

/// The numbers before the first set.
fn leading_sequence(attributes: &PathAttributes) -> Vec<Asn> {
    let segments = attributes.as_path().into_iter();
    let sequences = segments.map_while(|segment| match segment {
        AsPathSegment::Sequence(numbers) => Some(numbers),
        AsPathSegment::Set(_) => None,
    });
    sequences.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::attributes::{Community, Origin};
    use super::*;

    fn part(path: &[u32], communities: &[u32], origin: Origin) -> PathAttributes {
        let path: Vec<Asn> = path.iter().copied().map(Asn).collect();
        let communities: Vec<Community> = communities.iter().copied().map(Community).collect();
        PathAttributes::builder(std::net::Ipv4Addr::new(10, 0, 0, 1).into())
            .as_sequence(&path)
            .communities(&communities)
            .large_communities(&[(65001, 1, path.len() as u32)])
            .origin(origin)
            .med(Some(7))
            .build()
    }

    #[test]
    fn an_aggregate_has_the_beginning_that_all_paths_share_and_the_communities_of_any() {
        let parts = [
            part(&[65001, 65002, 65003], &[1, 2], Origin::Igp),
            part(&[65001, 65002, 65009], &[2, 3], Origin::Incomplete),
        ];
        let whole = PathAttributes::aggregate(parts.iter());
        let whole = whole.as_ref();
        let path: Option<Vec<u32>> = whole.map(|whole| whole.as_numbers().map(|asn| asn.0).collect());
        assert_eq!(path, Some(vec![65001, 65002]));
        let communities: Option<Vec<u32>> = whole.map(|whole| whole.communities().map(|each| each.0).collect());
        assert_eq!(communities, Some(vec![1, 2, 3]));
        assert_eq!(whole.map(|whole| whole.large_communities().count()), Some(1));
        assert_eq!(whole.map(PathAttributes::origin), Some(Origin::Incomplete));
        assert_eq!(whole.and_then(PathAttributes::med), None);
        assert!(whole.is_some_and(|whole| whole.value(code::ATOMIC_AGGREGATE).is_some()));
    }

    #[test]
    fn an_aggregate_of_like_paths_leaves_no_number_out_and_says_so() {
        let parts = [part(&[65001], &[], Origin::Igp), part(&[65001], &[1], Origin::Egp)];
        let whole = PathAttributes::aggregate(parts.iter());
        assert!(whole.is_some_and(|whole| whole.value(code::ATOMIC_AGGREGATE).is_none() && whole.as_path_len() == 1));
        let unlike = [part(&[65001], &[], Origin::Igp), part(&[65002], &[], Origin::Igp)];
        let whole = PathAttributes::aggregate(unlike.iter());
        assert!(whole.is_some_and(|whole| whole.value(code::ATOMIC_AGGREGATE).is_some() && whole.as_path_len() == 0));
        assert!(PathAttributes::aggregate([].iter()).is_none());
    }
}
