"""Client packages of other projects, in an environment of their own, whose needs do not limit those of tierserve."""
