import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net'

/**
 * Which addresses a request of ours may go to that somebody else has named: public ones alone, unless the
 * configuration allows more. Otherwise a webhook could be pointed at what only this machine can reach.
 *
 * Sources: the IANA special-purpose address registries (RFC 6890 and its updates), RFC 6052 (NAT64),
 * RFC 3056 (6to4).
 */

const FORBIDDEN_IPV4 = [
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // carrier-grade NAT
  ['127.0.0.0', 8], // loopback
  ['169.254.0.0', 16], // link-local, with the metadata services of clouds
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16], // private
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, and broadcast
] as const

// Everything outside of 2000::/3 is forbidden anyway: loopback, unique local, link-local, multicast and the rest.
const GLOBAL_IPV6 = ['2000::', 3] as const
const FORBIDDEN_IPV6 = [
  ['2001::', 23], // protocol assignments, with Teredo
  ['2001:db8::', 32], // documentation
  ['3fff::', 20], // documentation
] as const

const forbidden4 = new BlockList()
for (const [network, prefix] of FORBIDDEN_IPV4) forbidden4.addSubnet(network, prefix, 'ipv4')
const forbidden6 = new BlockList()
for (const [network, prefix] of FORBIDDEN_IPV6) forbidden6.addSubnet(network, prefix, 'ipv6')
const global6 = new BlockList()
global6.addSubnet(...GLOBAL_IPV6, 'ipv6')

/** Whether an address is not public. What is no address at all is forbidden, too. */
export function isForbiddenAddress(address: string): boolean {
  if (isIPv4(address)) return forbidden4.check(address, 'ipv4')
  if (!isIPv6(address)) return true
  const inner = embeddedIpv4(address)
  if (inner !== undefined) return forbidden4.check(inner, 'ipv4')
  const [bare = address] = address.split('%')
  return !global6.check(bare, 'ipv6') || forbidden6.check(bare, 'ipv6')
}

/** The IPv4 address that packets to this IPv6 address end at: mapped, by NAT64, or by 6to4. */
export function embeddedIpv4(address: string): string | undefined {
  const groups = groupsOf(address)
  const isNone = (from: number, to: number) => groups.slice(from, to).every((group) => group === 0)
  if (isNone(0, 5) && groups[5] === 0xffff) return dotted(groups[6], groups[7])
  if (groups[0] === 0x64 && groups[1] === 0xff9b && isNone(2, 6)) return dotted(groups[6], groups[7])
  if (groups[0] === 0x2002) return dotted(groups[1], groups[2])
  return undefined
}

function dotted(high = 0, low = 0): string {
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.')
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): readonly number[] {
  const [bare = ''] = address.split('%')
  const withoutDots = bare.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
  )
  const [head = '', tail] = withoutDots.split('::')
  const parse = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16))
  const first = parse(head)
  if (tail === undefined) return first
  const last = parse(tail)
  return [...first, ...new Array<number>(Math.max(0, 8 - first.length - last.length)).fill(0), ...last]
}

/** Networks and hosts that are allowed although they are not public. */
export interface AllowedTargets {
  allowsAddress(address: string): boolean
  allowsHost(host: string): boolean
}

/**
 * Reads entries such as `10.1.0.0/16`, `fd00::/8`, `127.0.0.1` or `hooks.internal`.
 *
 * @throws RangeError that names the entry which is none of these
 */
export function allowedTargets(entries: readonly string[]): AllowedTargets {
  const networks = new BlockList()
  const hosts = new Set<string>()
  for (const entry of entries) {
    const [address = '', prefix] = entry.split('/')
    const family = isIP(address)
    if (family !== 0) {
      const bits = prefix === undefined ? (family === 4 ? 32 : 128) : Number(prefix)
      if (!Number.isInteger(bits) || prefix === '' || bits < 0 || bits > (family === 4 ? 32 : 128)) {
        throw new RangeError(`"${entry}" has no valid prefix length`)
      }
      networks.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6')
    } else if (/^[a-z0-9_]([a-z0-9_.-]{0,252})$/i.test(entry)) {
      hosts.add(entry.toLowerCase())
    } else {
      throw new RangeError(`"${entry}" is neither a network such as 10.1.0.0/16 nor a host name`)
    }
  }
  return {
    allowsHost: (host) => hosts.has(host.toLowerCase()),
    allowsAddress: (address) => {
      const [bare = address] = address.split('%')
      const inner = isIPv6(bare) ? embeddedIpv4(bare) : undefined
      return inner === undefined
        ? isIP(bare) !== 0 && networks.check(bare, isIPv4(bare) ? 'ipv4' : 'ipv6')
        : networks.check(inner, 'ipv4')
    },
  }
}
