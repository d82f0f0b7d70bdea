/**
 * Where new directories go: those at the top of the tree far from each other, so that each has room
 * for what will come below it; all others near their parent, as long as there is room.
 *
 * @see fs/ext4/ialloc.c, find_group_orlov
 */
import type { GroupIndex } from "../../base/numbers.ts";
import { type Filesystem, ROOT_INODE } from "../filesystem.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";

/** Flex groups that are looked at for one directory. */
const CANDIDATES_MAX = 32;
/** Larger flex groups are looked at in parts: a directory should not cost the more for them. */
const GROUPS_PER_FLEX_MAX = 16;
/** A flex group is too full for a new directory when less than this share of the average is free. */
const ROOM_SHARE = 0.75;

/** What a flex group has. */
interface Room {
  inodes: number;
  clusters: number;
  directories: number;
}

/** The group in whose flex group a new directory below `parent` should be. */
export function groupForDirectory(fs: Filesystem, parent: Inode): GroupIndex {
  const group = Math.floor((parent.number - 1) / fs.superblock.inodesPerGroup);
  const isTop = parent.number === ROOT_INODE || parent.hasFlag(InodeFlags.TOPDIR);
  const flex = Math.floor(group / flexSize(fs));
  const found = isTop ? emptiestFlex(fs) : nearFlex(fs, flex);
  return (found === flex && !isTop ? group : found * flexSize(fs)) as GroupIndex;
}

const flexSize = (fs: Filesystem): number =>
  Math.min(fs.superblock.groupsPerFlex, GROUPS_PER_FLEX_MAX);
const flexCount = (fs: Filesystem): number => Math.ceil(fs.superblock.groupCount / flexSize(fs));

/** Of the flex groups with at least average room, from a random one on, the one with fewest directories. */
function emptiestFlex(fs: Filesystem): number {
  const count = flexCount(fs);
  const average = averageRoom(fs);
  const start = Math.floor(fs.writer.random() * count);
  let best = start;
  let fewest = Number.POSITIVE_INFINITY;
  for (let step = 0; step < Math.min(count, CANDIDATES_MAX); step++) {
    const flex = (start + step) % count;
    const room = roomOf(fs, flex);
    const isRoomy = room.inodes >= average.inodes && room.clusters >= average.clusters;
    if (!isRoomy || room.inodes === 0 || room.directories >= fewest) continue;
    best = flex;
    fewest = room.directories;
  }
  return best;
}

/** The flex group from `flex` on that has enough room; `flex` itself when none of the next has. */
function nearFlex(fs: Filesystem, flex: number): number {
  const count = flexCount(fs);
  const average = averageRoom(fs);
  for (let step = 0; step < Math.min(count, CANDIDATES_MAX); step++) {
    const candidate = (flex + step) % count;
    const room = roomOf(fs, candidate);
    const hasInodes = room.inodes > 0 && room.inodes >= average.inodes * ROOM_SHARE;
    if (hasInodes && room.clusters >= average.clusters * ROOM_SHARE) return candidate;
  }
  return flex;
}

function averageRoom(fs: Filesystem): Room {
  const count = flexCount(fs);
  const { inodes, clusters } = fs.groups.countFree();
  return { inodes: inodes / count, clusters: clusters / count, directories: 0 };
}

function roomOf(fs: Filesystem, flex: number): Room {
  const size = flexSize(fs);
  const end = Math.min((flex + 1) * size, fs.superblock.groupCount);
  const room = { inodes: 0, clusters: 0, directories: 0 };
  for (let group = flex * size; group < end; group++) {
    const descriptor = fs.groups.descriptor(group as GroupIndex);
    room.inodes += descriptor.freeInodes;
    room.clusters += descriptor.freeClusters;
    room.directories += descriptor.usedDirectories;
  }
  return room;
}
