# Settles cloud-init in the image's tree: sourced by customize.sh. It is Debian's
# own, as it comes; only where it looks for its data is said, as every cloud's
# image says it.
write cloud/cloud.cfg.d/90-holdfast.cfg <<'END'
datasource_list: [NoCloud, None]
END
