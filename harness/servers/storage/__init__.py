"""The Storage API: buckets and objects over HTTP, resumable uploads, the S3 protocol.

``StorageService`` answers the requests of one project; storage-api describes what it
answers.
"""

from harness.servers.storage.service import StorageService

__all__ = ["StorageService"]
