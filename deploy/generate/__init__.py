"""What is deployed and is made by code: Grafana's dashboards, and the rules as the Prometheus operator wants them.

python -m deploy.generate writes the files; a test fails when they are not what this makes.
"""
