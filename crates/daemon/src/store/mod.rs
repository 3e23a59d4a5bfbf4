//! What must survive: resources, settings, operations.
