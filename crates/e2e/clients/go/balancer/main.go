// Command balancer writes, reads and watches through all members of a cluster at once, as a program does that leaves the
// choice of the member to the client library. It goes on until its input ends and tells each thing that it was told.
//
//	balancer ENDPOINT,ENDPOINT,...
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	key = "go/balancer"
	// A call may take so long; then the next one is made, through another member.
	patience = 2 * time.Second
	// Between two writes, so that it disturbs nothing.
	pause = 20 * time.Millisecond
	// One read for so many writes.
	writesPerRead = 5
	// How long the watch may take to come to the end.
	endLimit = 2 * time.Minute
)

func main() {
	if err := run(strings.Split(os.Args[1], ",")); err != nil {
		fmt.Fprintln(os.Stderr, "balancer:", err)
		os.Exit(1)
	}
}

func run(endpoints []string) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          time.Second,
		DialKeepAliveTime:    time.Second,
		DialKeepAliveTimeout: time.Second,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	begin, err := revision(client)
	if err != nil {
		return err
	}
	seen, stop := follow(client, begin+1)
	defer stop()

	acknowledged, failed, last := 0, 0, int64(0)
	longest, since := time.Duration(0), time.Now()
	for number := 1; !over.Load(); number++ {
		// Several runs may follow each other, and no value is to be written twice.
		value := fmt.Sprintf("go-%d-%d", os.Getpid(), number)
		fmt.Println("put", key, value)
		revision, err := put(client, value)
		if err != nil {
			// It may have been done or not; the library does not send it again, and nor does this program.
			failed++
			fmt.Println("unknown", err)
			continue
		}
		acknowledged, last = acknowledged+1, revision
		longest, since = max(longest, time.Since(since)), time.Now()
		fmt.Println("done", revision)
		if number%writesPerRead == 0 {
			if err := read(client, revision); err != nil {
				return err
			}
		}
		time.Sleep(pause)
	}
	for begun := time.Now(); seen.Load() < last; time.Sleep(pause) {
		if time.Since(begun) > endLimit {
			return fmt.Errorf("the watch has seen revision %d of %d", seen.Load(), last)
		}
	}
	fmt.Printf("end: %d acknowledged, %d unknown, longest gap %d ms\n", acknowledged, failed, longest.Milliseconds())
	return nil
}

// revision tells that of the store, from whichever member is the first to answer.
func revision(client *clientv3.Client) (int64, error) {
	var err error
	for begun := time.Now(); time.Since(begun) < endLimit; {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var answer *clientv3.GetResponse
		answer, err = client.Get(ctx, key, clientv3.WithSerializable())
		cancel()
		if err == nil {
			return answer.Header.Revision, nil
		}
	}
	return 0, err
}

func put(client *clientv3.Client, value string) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := client.Put(ctx, key, value)
	if err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}

// read expects what was acknowledged last, or one that got no answer and was done after it.
func read(client *clientv3.Client, acknowledged int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := client.Get(ctx, key)
	if err != nil {
		fmt.Println("unread", err)
		return nil
	}
	if len(answer.Kvs) != 1 || answer.Kvs[0].ModRevision < acknowledged {
		return fmt.Errorf("stale read: %v, and revision %d was acknowledged", answer.Kvs, acknowledged)
	}
	return nil
}

// follow watches the key from a revision on; the library resumes the watch at other members. It tells the last
// revision seen.
func follow(client *clientv3.Client, next int64) (*atomic.Int64, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	seen := new(atomic.Int64)
	go func() {
		for ctx.Err() == nil {
			for response := range client.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithRev(next)) {
				for _, event := range response.Events {
					if event.Kv.ModRevision < next {
						fmt.Fprintf(os.Stderr, "balancer: revision %d again\n", event.Kv.ModRevision)
						os.Exit(1)
					}
					next = event.Kv.ModRevision + 1
					seen.Store(event.Kv.ModRevision)
				}
				// Others compact what this key has not changed in for long.
				next = max(next, response.CompactRevision)
			}
			// The member has lost its leader and said so: this program goes on after what it has seen.
		}
	}()
	return seen, cancel
}
