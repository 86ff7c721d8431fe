"""Whether a results folder is what it says it is: schemas, hashes, and what is made from what. docs/validate.md."""
