// A transport node in Go: pushes what it measured over the push stream and asks how to send.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pbav1 "github.com/dwcp/pba/protos/pba/v1"
)

const link = "interop/go-1"

func main() {
	conn, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	pba := pbav1.NewPredictionServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	if err := push(ctx, pba); err != nil {
		log.Fatal(err)
	}
	how, err := pba.GetOptimalParameters(ctx, &pbav1.GetOptimalParametersRequest{
		LinkId:            link,
		CurrentStreams:    proto.Uint32(4),
		CongestionControl: pbav1.CongestionControl_CONGESTION_CONTROL_CUBIC,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("streams", how.Parameters.Streams, "buffer_bytes", how.Parameters.BufferBytes, "source", how.Source)

	_, err = pba.Predict(ctx, &pbav1.PredictRequest{LinkId: "interop/nowhere"})
	explain(err)
}

// push sends the last half hour, a sample a message, and waits for each acknowledgement.
func push(ctx context.Context, pba pbav1.PredictionServiceClient) error {
	stream, err := pba.StreamSamples(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	for i := 0; i < 30; i++ {
		err := stream.Send(&pbav1.PushSamplesRequest{
			Sequence: uint64(i + 1),
			Samples: []*pbav1.Sample{{
				LinkId:        link,
				MeasuredAt:    timestamppb.New(now.Add(time.Duration(i-29) * time.Minute)),
				BandwidthMbps: proto.Float32(900 + float32(i%5)),
				LatencyMs:     proto.Float32(12.5),
			}},
		})
		if err != nil {
			return err
		}
		ack, err := stream.Recv()
		if err != nil {
			return err
		}
		if ack.Sequence != uint64(i+1) || ack.Stored != 1 {
			return fmt.Errorf("sample %d: %v", i+1, ack)
		}
	}
	fmt.Println("stored 30")
	return stream.CloseSend()
}

// explain shows what an error's details say.
func explain(err error) {
	failed := status.Convert(err)
	for _, detail := range failed.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Println("refused", failed.Code(), info.Domain, info.Reason, info.Metadata["link_id"])
		}
	}
}
