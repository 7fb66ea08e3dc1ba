"""What the GPU backends share: how a problem becomes passes over the score matrix, whoever runs the kernels."""
