"""What several test files share: waiting, tensors, servers."""
