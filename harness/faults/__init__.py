"""What can go wrong on purpose: processes, connections and disks."""
