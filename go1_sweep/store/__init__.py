"""Object stores (S3, Google's), and the copies that machines keep of a sweep's folder in one.

All files are written locally, and a file is uploaded by whoever wrote it: what a worker wrote by its actor
(``actors``), the rest by the driver (``sweep_copy``). The driver fetches what actors have uploaded.
"""
