"""What the documents use of grpcurl, by reflection and without files, for machines that have none.

Usage: grpcurl -plaintext [-d JSON] HOST:PORT list | describe NAME | SERVICE/METHOD
"""

import argparse
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ANSWERS = 1
"""Of a stream: it never ends by itself."""


def tell(text):
    sys.stdout.write(f"{text}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-d", default="{}")
    parser.add_argument("target")
    parser.add_argument("what", nargs="+")
    options = parser.parse_args()
    with grpc.insecure_channel(options.target) as channel:
        known = ProtoReflectionDescriptorDatabase(channel)
        if options.what == ["list"]:
            tell("\n".join(known.get_services()))
            return
        pool = DescriptorPool(known)
        if options.what[0] == "describe":
            tell(pool.FindServiceByName(options.what[1]).full_name)
            return
        call(channel, pool, options.what[0], options.d)


def call(channel, pool, name, body):
    service, _, method = name.partition("/")
    found = pool.FindServiceByName(service).FindMethodByName(method)
    asks, answers = GetMessageClass(found.input_type), GetMessageClass(found.output_type)
    kind = channel.unary_stream if found.server_streaming else channel.unary_unary
    rpc = kind(f"/{name}", request_serializer=asks.SerializeToString, response_deserializer=answers.FromString)
    request = json_format.Parse(body, asks(), descriptor_pool=pool)
    if not found.server_streaming:
        tell(json_format.MessageToJson(rpc(request, timeout=30), descriptor_pool=pool))
        return
    stream = rpc(request, timeout=30)
    for count, answer in enumerate(stream, 1):
        tell(json_format.MessageToJson(answer, descriptor_pool=pool))
        if count == ANSWERS:
            stream.cancel()
            return


if __name__ == "__main__":
    sys.exit(main())
