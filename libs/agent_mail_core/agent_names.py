"""Memorable agent names: an adjective and a noun, drawn at random from more than ten thousand."""

import re
import secrets

ADJECTIVES = (
    "Able Agile Alert Amber Ample Apt Arctic Autumn Azure Balmy Blithe Bold Brave Breezy Bright Brisk Bronze Calm"
    " Candid Cedar Civil Clear Clever Cobalt Copper Coral Cosmic Cozy Crimson Crisp Curious Daring Dapper Deft"
    " Dewy Eager Early Earnest Easy Elder Ember Epic Even Fabled Fair Fancy Fearless Fleet Floral Fluent Fond"
    " Frank Free Fresh Frosty Gentle Gilded Glad Golden Grand Green Hardy Hazel Hearty Honest Humble Indigo Ivory"
    " Jade Jolly Jovial Keen Kind Lively Loyal Lucid Lucky Lunar Maple Merry Mighty Mild Mint Misty Modest Noble"
    " Northern Olive Opal Patient Plucky Polar Polite Proud Quick Quiet Rapid Ready Rosy Royal Ruby Rustic Sage"
    " Sandy Scarlet Serene Sharp Silent Silver Smart Solar Solid Spry Steady Stellar Sturdy Sunny Swift Tidy Topaz"
    " Tranquil Trusty Upbeat Velvet Vivid Warm Wise Witty Young Zesty"
).split()

NOUNS = (
    "Acorn Alder Anchor Arrow Aspen Badger Basin Bay Beacon Beaver Birch Bison Bluff Bobcat Breeze Bridge Brook"
    " Canyon Castle Cavern Cliff Cloud Comet Condor Cove Crane Creek Cricket Dale Dawn Deer Delta Dolphin Dove"
    " Dune Eagle Echo Elk Elm Falcon Fern Finch Fjord Forest Forge Fox Garden Gate Gecko Geyser Glacier Glade"
    " Grove Gull Harbor Hare Hawk Heron Hill Horizon Island Jaguar Juniper Kestrel Koala Lagoon Lake Lantern Lark"
    " Laurel Leaf Ledge Lemur Lighthouse Lily Lion Lynx Magpie Marsh Marten Meadow Mesa Mill Moose Moss Mountain"
    " Newt Oak Oasis Ocean Orbit Orca Orchid Osprey Otter Owl Panda Path Peak Pebble Pelican Penguin Pine Planet"
    " Plover Pond Poplar Prairie Puffin Quail Quarry Rain Raven Reef Ridge River Robin Rook Salmon Seal Shore"
    " Sparrow Spring Spruce Squirrel Star Stone Stork Stream Summit Swallow Swan Thicket Thrush Tiger Trail Tulip"
    " Turtle Valley Violet Walnut Whale Willow Wolf Wren"
).split()

HINT_LENGTH = 32


def draw(count: int, digits: int = 0, hint: str | None = None) -> list[str]:
    """`count` different random names, each with that many random digits at its end.

    With a hint its letters and digits take the noun's place; a hint that has none is passed over.
    """
    word = re.sub(r"[^A-Za-z0-9]", "", hint or "")[:HINT_LENGTH]
    nouns = [word[0].upper() + word[1:]] if word else NOUNS
    names: dict[str, None] = {}
    for _ in range(count * 20):
        number = f"{secrets.randbelow(10**digits):0{digits}}" if digits else ""
        names[secrets.choice(ADJECTIVES) + secrets.choice(nouns) + number] = None
        if len(names) == count:
            break
    return list(names)
