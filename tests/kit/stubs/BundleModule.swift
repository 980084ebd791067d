import Foundation

// Swift Package Manager writes this for a target with resources.
extension Bundle {
    static let module = Bundle.main
}
