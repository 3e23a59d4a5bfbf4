//! What has a number: prefixes and attribute sets, shared by all parts of the RIB.

use crate::attributes::AttributeTable;
use crate::hash::HashKey;
use crate::prefix_table::PrefixTable;

/// The tables behind the numbers.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) prefixes: PrefixTable,
    pub(crate) attributes: AttributeTable,
}

impl Tables {
    pub(crate) fn new(key: HashKey) -> Tables {
        Tables {
            prefixes: PrefixTable::new(key),
            attributes: AttributeTable::new(key),
        }
    }
}
