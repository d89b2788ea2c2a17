"""How Redis is reached: connections, pipelines, pub/sub, and what its errors mean."""
