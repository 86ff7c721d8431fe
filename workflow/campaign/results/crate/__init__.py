"""A campaign as an RO-Crate, with hashes: what is published, archived or handed on. docs/validate.md."""
