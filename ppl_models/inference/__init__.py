"""Update rules: how a fit takes one step; starts, stopping, and importance sampling afterwards."""
