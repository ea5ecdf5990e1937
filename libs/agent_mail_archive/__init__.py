"""The archive as git repositories, on pygit2."""
