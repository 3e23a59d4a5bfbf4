//! What has a number: prefixes and attribute sets, shared by all parts of the RIB.

use crate::attributes::AttributeTable;
use crate::prefix_table::PrefixTable;

/// The tables behind the numbers.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) prefixes: PrefixTable,
    pub(crate) attributes: AttributeTable,
}
