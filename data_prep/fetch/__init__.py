"""Published files from the network, a folder or an archive, proved to be the right bytes."""
