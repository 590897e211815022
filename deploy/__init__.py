"""What an operator deploys: manifests, rules, dashboards, and the code that makes some of them."""
