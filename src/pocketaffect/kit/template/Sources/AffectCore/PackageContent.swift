import Foundation

/// The bytes whose SHA-256 is a package's digest: of each file its relative path, its length and its content.
///
/// Files come in the order of their paths, and a zero byte ends path and length.
public func packageContent(at package: URL) throws -> Data {
    var content = Data()
    for path in try FileManager.default.subpathsOfDirectory(atPath: package.path).sorted() {
        let file = package.appendingPathComponent(path)
        guard try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else { continue }
        let bytes = try Data(contentsOf: file)
        content.append(Data("\(path)\0\(bytes.count)\0".utf8))
        content.append(bytes)
    }
    return content
}
