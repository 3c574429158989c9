// Command registration keeps a key alive by a lease of five seconds.
//
//	registration ENDPOINT revoke   registers, sees two keep-alives, revokes, sees the key gone
//	registration ENDPOINT hold     registers, keeps alive until it is killed
//	registration ENDPOINT gone     waits until the key of `hold` has gone
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const ttlSeconds = 5

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "registration:", err)
		os.Exit(1)
	}
}

func run(endpoint, verb string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := clientv3.NewFromURL(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	switch verb {
	case "revoke":
		return revoke(ctx, client)
	case "hold":
		return hold(ctx, client)
	case "gone":
		return gone(ctx, client)
	}
	return fmt.Errorf("unknown verb %s", verb)
}

func register(ctx context.Context, client *clientv3.Client, key string) (clientv3.LeaseID, <-chan *clientv3.LeaseKeepAliveResponse, error) {
	lease, err := client.Grant(ctx, ttlSeconds)
	if err != nil {
		return 0, nil, err
	}
	if _, err := client.Put(ctx, key, "127.0.0.1:80", clientv3.WithLease(lease.ID)); err != nil {
		return 0, nil, err
	}
	alive, err := client.KeepAlive(ctx, lease.ID)
	return lease.ID, alive, err
}

func revoke(ctx context.Context, client *clientv3.Client) error {
	const key = "registered/revoke"
	lease, alive, err := register(ctx, client, key)
	if err != nil {
		return err
	}
	for range 2 {
		fmt.Println("kept alive, ttl", (<-alive).TTL)
	}
	left, err := client.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	fmt.Printf("granted %d, within: %v, keys %s\n", left.GrantedTTL, left.TTL > 0 && left.TTL <= ttlSeconds, left.Keys)
	if _, err := client.Revoke(ctx, lease); err != nil {
		return err
	}
	after, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Println("revoked, keys left", after.Count)
	_, err = client.Put(ctx, key, "x", clientv3.WithLease(lease))
	fmt.Println("put with it:", err)
	return nil
}

func hold(ctx context.Context, client *clientv3.Client) error {
	_, alive, err := register(ctx, client, "registered/hold")
	if err != nil {
		return err
	}
	for response := range alive {
		fmt.Println("alive", response.TTL)
	}
	return ctx.Err()
}

func gone(ctx context.Context, client *clientv3.Client) error {
	const key = "registered/hold"
	now, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Println("present", now.Count)
	for response := range client.Watch(ctx, key, clientv3.WithRev(now.Header.Revision+1)) {
		for _, event := range response.Events {
			fmt.Println(event.Type)
			if event.Type == clientv3.EventTypeDelete {
				return nil
			}
		}
	}
	return ctx.Err()
}
