"""What a platform team deploys: the image, the compose file, the balancer, database roles, TLS. No container engine."""
