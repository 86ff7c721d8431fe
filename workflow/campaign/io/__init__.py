"""Small files: YAML read strictly, schemas, atomic writing, locks, records that cannot be read."""
